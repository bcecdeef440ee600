"""llama.cpp's server with a model of the hub's format, which is made a GGUF file first.

    python tests/servers/llama.py FOLDER FILE.gguf PORT [POOLING]

It needs the packages gguf and xllamacpp; the latter holds the server, compiled.
"""

import json
import sys
import time
from pathlib import Path


def write_gguf(folder: Path, path: Path) -> None:
    """Write the BERT in `folder` as a GGUF file."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    numbers = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(numbers, key=numbers.__getitem__)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_list([token if token in special else _marked(token) for token in tokens])
    writer.add_token_types(kinds)
    writer.add_pad_token_id(numbers["[PAD]"])
    writer.add_unk_token_id(numbers["[UNK]"])
    writer.add_bos_token_id(numbers["[CLS]"])
    writer.add_sep_token_id(numbers["[SEP]"])
    writer.add_mask_token_id(numbers["[MASK]"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is not None:  # positions follow from the context, and the pooler is not used
            writer.add_tensor(known, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _marked(token: str) -> str:
    """llama.cpp marks the beginning of a word, where BERT marks what goes on."""
    return token[2:] if token.startswith("##") else f"\u2581{token}"


def serve(path: Path, port: int, pooling: str) -> None:
    """Serve the model until the process is ended."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.port = port
    options.embedding = True
    options.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    server = xllamacpp.Server(options)
    while server.listening_address:
        time.sleep(1)


if __name__ == "__main__":
    folder, path, port, *pooling = sys.argv[1:]
    write_gguf(Path(folder), Path(path))
    serve(Path(path), int(port), *(pooling or ["MEAN"]))
