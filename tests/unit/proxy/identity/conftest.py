"""A config with a development issuer that anything may be added to."""

import pytest


@pytest.fixture
def minimal_config() -> str:
    return """
auth.issuers = [{ issuer = "dev", algorithms = ["HS256"], development = true, scopes = ["usage:read", "admin", "a"] }]
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans = { pro = {}, free = {} }
tenants.acme.plans = ["pro", "free"]
"""
