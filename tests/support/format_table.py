"""Formats by checkpoints: is it imported, how far are its logits from the source's, does llama.cpp run it. A table for
docs/models.md:

    python tests/support/format_table.py

Of stories260K (where its files are), of the demo model and of a random one, written in each format. Errors are those of
the F32 file in float64 on the host. What is not installed (torch, transformers, onnx, llama-cpp-python) is left out."""

import json
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from models import make_model
from on_board import DATA, ROOT
from reference import Reference, metadata

sys.path.insert(0, str(ROOT / "host"))
from byte_level_json import VOCAB, tokenizer_json
from checkpoints import later, tokenizer_bytes
from hf_folders import CONFIG, make_folder, state
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.models.formats import llama2c

TOKENS = [1, 270, 40, 280, 3, 259, 17, 99]


class Checkpoint:
    """A model as a GGUF file in F32, to be written in other formats."""

    def __init__(self, name, path, folder):
        self.name, self.path, self.folder = name, path, folder
        self.model = Reference(path)
        self.sizes = {
            "dim": self.model.get("embedding_length"),
            "hidden": self.model.get("feed_forward_length"),
            "layers": self.model.layers,
            "heads": self.model.heads,
            "kv_heads": self.model.kv_heads,
            "vocab": self.model.vocab,
        }
        self.weights = {t.name: np.array(t.data) for t in GGUFReader(path).tensors}
        self.tokenizer = folder / "tok.bin"
        self.tokenizer.write_bytes(tokenizer_bytes(self.model.vocab))

    @property
    def logits(self):
        return Reference(self.path).logits(TOKENS)

    def module(self):
        import torch_llama

        sizes = {k: v for k, v in self.sizes.items() if k != "seq"}
        tied = "output.weight" not in self.weights
        options = {"eps": float(self.model.eps), "base": self.model.get("rope.freq_base", 10000.0), "tied": tied}
        weights = state(self.path, self.model.heads, self.model.kv_heads)
        return torch_llama.load(torch_llama.Llama(**sizes, **options), weights)


def theirs(module):
    import torch

    with torch.no_grad():
        return module(torch.tensor([TOKENS]))[0].double().numpy()


def gguf(c):
    return c.path, None, c.logits


def llama2c_of(version):
    def write(c):
        path = c.folder / "model.bin"
        sizes = c.sizes | {"seq": c.model.context}
        data, stored = later(c.weights, sizes, version, group=4)
        path.write_bytes(data)
        source = Reference(c.path)
        source.weights = {name: w.astype(np.float64) for name, w in stored.items()}
        return path, c.tokenizer, source.logits(TOKENS)

    return write


def huggingface(c):
    return of_folder(c, lambda folder: (folder / "tokenizer.model").write_bytes(spm(c)))


def huggingface_byte_level(c):
    tokenizer = json.dumps(tokenizer_json("llama-bpe"))
    return of_folder(c, lambda folder: (folder / "tokenizer.json").write_text(tokenizer), bos_token_id=None)


def of_folder(c, write_tokenizer, **changes):
    names = {"hidden_size": "dim", "intermediate_size": "hidden", "num_hidden_layers": "layers", "vocab_size": "vocab"}
    names |= {"num_attention_heads": "heads", "num_key_value_heads": "kv_heads"}
    config = CONFIG | {key: c.sizes[name] for key, name in names.items()}
    config |= {"tie_word_embeddings": "output.weight" not in c.weights, "rms_norm_eps": float(c.model.eps)}
    config |= changes
    folder = make_folder(c.folder / "hf", state(c.path, c.model.heads, c.model.kv_heads), tokens=False, **config)
    write_tokenizer(folder)
    if not find_spec("transformers") or not find_spec("torch"):
        return folder, None, c.logits
    import torch
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return folder, None, theirs(lambda tokens: module(tokens).logits)


def spm(c):
    """The vocabulary as SentencePiece writes it."""
    from sentencepiece import sentencepiece_model_pb2 as description

    model, reader = description.ModelProto(), GGUFReader(c.path)
    keys = ("tokens", "scores", "token_type")
    for piece, score, type_ in zip(*(metadata(reader, f"tokenizer.ggml.{key}") for key in keys), strict=True):
        model.pieces.add(piece=piece, score=score, type=int(type_))
    model.trainer_spec.model_type = model.trainer_spec.BPE
    return model.SerializeToString()


def pytorch(c):
    import torch

    module = c.module()
    args = {"n_heads": c.model.heads, "max_seq_len": c.model.context, "norm_eps": float(c.model.eps)}
    torch.save({"model": module.state_dict(), "model_args": args}, c.folder / "model.pt")
    return c.folder / "model.pt", c.tokenizer, theirs(module)


def torch_export(c):
    import torch

    module = c.module()
    torch.export.save(torch.export.export(module, (torch.tensor([TOKENS]),)), c.folder / "model.pt2")
    return c.folder / "model.pt2", c.tokenizer, theirs(module)


def onnx_of(dynamo):
    def write(c):
        import torch
        from onnx.reference import ReferenceEvaluator

        path = c.folder / "model.onnx"
        options = {"opset_version": 18, "verbose": False} if dynamo else {"opset_version": 17}
        torch.onnx.export(c.module(), (torch.tensor([TOKENS]),), path, dynamo=dynamo, **options)
        graph = ReferenceEvaluator(str(path))
        return path, c.tokenizer, graph.run(None, {graph.input_names[0]: np.array([TOKENS])})[0][0]

    return write


FORMATS = {
    "GGUF": (gguf, ()),
    "llama2.c v1": (llama2c_of(1), ()),
    "llama2.c v2 (int8)": (llama2c_of(2), ()),
    "Hugging Face": (huggingface, ("safetensors", "sentencepiece")),
    "PyTorch": (pytorch, ("torch",)),
    "torch.export": (torch_export, ("torch",)),
    "ONNX, TorchScript": (onnx_of(False), ("torch", "onnx")),
    "ONNX, dynamo": (onnx_of(True), ("torch", "onnx", "onnxscript")),
}

BYTE_LEVEL = "random, byte-level BPE"
BYTE_LEVEL_FORMATS = {
    "GGUF": (gguf, ()),
    "Hugging Face": (huggingface_byte_level, ("safetensors",)),
}


def llama_cpp(path, expected):
    """Whether llama.cpp runs the file, and how far its logits are from ours."""
    if not find_spec("llama_cpp"):
        return "not run"
    from llama_cpp import Llama

    try:
        options = {"n_ctx": 64, "logits_all": True, "type_k": 0, "type_v": 0, "n_threads": 1}  # 0: F32
        llama = Llama(str(path), verbose=False, **options)
        llama.eval(TOKENS)
    except (ValueError, RuntimeError) as error:
        return f"no: {error}"
    return f"yes, within {np.abs(llama.scores[: len(TOKENS)] - expected).max():.0e}"


def row(form, name, source, tokenizer, expected, out):
    convert(source, tokenizer, out, "F32")
    ours = Reference(out).logits(TOKENS)
    off = np.abs(ours - expected).max()
    print(f"| {form} | {name} | yes | {off:.0e} | {llama_cpp(out, ours)} |".replace("0e+00", "0"), flush=True)


def main():
    warnings.simplefilter("ignore")
    print("| format | checkpoint | imported | logits differ by | llama.cpp runs it |\n|---|---|---|---:|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = folder / "out.gguf"
        row("GGUF, Q4_0", "tinyprof-demo", DEMO_MODEL, None, Reference(DEMO_MODEL).logits(TOKENS), out)
        sources = {"random": make_model(folder / "random.gguf", tied=False)}
        if (stories := DATA / "stories260K.bin").exists():
            sources["stories260K"] = folder / "stories260K.gguf"
            convert(stories, DATA / "tok512.bin", sources["stories260K"], "F32")
            model = llama2c.read(stories, DATA / "tok512.bin")
            weights = {n: t.whole() for n, t in model.tensors.items()}
            source = Reference(sources["stories260K"])
            source.weights = {name: w.astype(np.float64) for name, w in weights.items()}
            row("llama2.c v0", "stories260K", stories, DATA / "tok512.bin", source.logits(TOKENS), out)
        sources[BYTE_LEVEL] = make_model(folder / "byte-level.gguf", tied=False, pre="llama-bpe", vocab=VOCAB)
        for name, path in sources.items():
            (folder / name).mkdir()
            checkpoint = Checkpoint(name, path, folder / name)
            for form, (write, needs) in (BYTE_LEVEL_FORMATS if name == BYTE_LEVEL else FORMATS).items():
                if all(find_spec(module) for module in needs):
                    row(form, name, *write(checkpoint), out)
                else:
                    print(f"| {form} | {name} | not run: {' or '.join(needs)} is missing | | |")


if __name__ == "__main__":
    main()
