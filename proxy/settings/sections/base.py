"""What every section is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What every section shares: nothing unknown, nothing coerced, nothing changed later."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )
