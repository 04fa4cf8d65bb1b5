"""
Make a tiny language model with random weights, and a tokenizer trained on the spot: nothing is downloaded.

    make_tiny_model.py FOLDER TEXT

It has Qwen2's architecture, which every vLLM serves, and a ChatML template. TEXT is what the tokenizer learns its words
from. The same TEXT gives the same model, so that every replica answers alike.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 2048
CONTEXT = 8192
WIDTH = 128
HEADS = 2
KV_HEADS = 1
HEAD = 64
INNER = 256
LAYERS = 2
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer(text: str) -> Tokenizer:
    """Learn byte-level BPE from `text`."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(text.splitlines(), trainer)
    return made


def shapes() -> dict[str, tuple[int, ...]]:
    """Name every tensor of the model; the output layer shares the embedding."""
    layer = {
        "input_layernorm.weight": (WIDTH,),
        "self_attn.q_proj.weight": (HEADS * HEAD, WIDTH),
        "self_attn.q_proj.bias": (HEADS * HEAD,),
        "self_attn.k_proj.weight": (KV_HEADS * HEAD, WIDTH),
        "self_attn.k_proj.bias": (KV_HEADS * HEAD,),
        "self_attn.v_proj.weight": (KV_HEADS * HEAD, WIDTH),
        "self_attn.v_proj.bias": (KV_HEADS * HEAD,),
        "self_attn.o_proj.weight": (WIDTH, HEADS * HEAD),
        "post_attention_layernorm.weight": (WIDTH,),
        "mlp.gate_proj.weight": (INNER, WIDTH),
        "mlp.up_proj.weight": (INNER, WIDTH),
        "mlp.down_proj.weight": (WIDTH, INNER),
    }
    layers = {f"model.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"model.embed_tokens.weight": (VOCABULARY, WIDTH), **layers, "model.norm.weight": (WIDTH,)}


def weights() -> dict[str, np.ndarray]:
    """Draw the weights; norms are 1."""
    draw = np.random.default_rng(0)
    return {
        name: np.ones(shape, np.float32) if "norm" in name else draw.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in shapes().items()
    }


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """
    Return the tensors as a safetensors file of bfloat16, which NumPy does not know: the upper half of a float32.

    Source: the format's description in the README of huggingface/safetensors.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in tensors.items():
        part = (value.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data


def config(made: Tokenizer) -> dict[str, dict[str, object]]:
    """Return the JSON files beside the weights."""
    end, pad = made.token_to_id(END), made.token_to_id(PAD)
    model = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    tokens = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    return {
        "config.json": model,
        "tokenizer_config.json": tokens,
        "generation_config.json": {"eos_token_id": [end], "pad_token_id": pad},
    }


def main(folder: Path, text: str) -> None:
    """Write the model to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer(text)
    made.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(safetensors(weights()))
    for name, content in config(made).items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
