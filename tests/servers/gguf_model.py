"""A BERT of random weights as a GGUF file, made on the spot: what llama.cpp's servers load.

write_model(folder / "tiny.gguf")  # 32 dimensions, one layer, a vocabulary of letters and digits
"""

import string
from pathlib import Path

import numpy as np

WIDTH = 32
CONTEXT = 128
HIDDEN = 64
HEADS = 2


def write_model(path: Path) -> None:
    """Write the model; needs the package gguf."""
    import gguf

    letters = [*string.ascii_lowercase, *string.digits]
    # llama.cpp marks the beginning of a word, where BERT marks what goes on.
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581tree", "\u2581:", "\u2581_", *letters]
    tokens += [f"\u2581{letter}" for letter in letters]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_token_type_count(2)
    for name, number in (("pad", 0), ("unk", 1), ("cls", 2), ("sep", 3), ("mask", 4), ("bos", 2), ("eos", 3)):
        add = getattr(writer, f"add_{name}_token_id", None)
        if add is not None:
            add(number)
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (len(tokens), WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        "token_types.weight": (2, WIDTH),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (WIDTH, WIDTH),
        "blk.0.attn_v.weight": (WIDTH, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_up.weight": (HIDDEN, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, HIDDEN),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.standard_normal(shape).astype(np.float32) * 0.5)
        if name.startswith("blk"):
            writer.add_tensor(name.replace("weight", "bias"), np.zeros(shape[0], np.float32))
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
