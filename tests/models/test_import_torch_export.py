"""Programs of torch.export in: read without running them, nor PyTorch; the logits are the program's."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch_llama
from checkpoints import tokenizer_bytes
from hf_folders import CONFIG, LLAMA3, llama3_source, state
from models import make_model
from reference import Reference
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.convert import convert
from torch_files import TOKENS, exported, torch


@pytest.mark.parametrize(
    "options,same",
    [
        ({"tied": False, "fused": True}, {"tied": False}),
        ({"eps": 1e-3, "base": 5e5, "heads": 8, "kv_heads": 8}, {"eps": 1e-3, "rope_base": 5e5}),
        ({"head_dim": 24}, {"head_dim": 24}),
    ],
)
def test_logits_are_the_program_s(tmp_path, options, same):
    heads = {name: options[name] for name in ("heads", "kv_heads") if name in options}
    source = make_model(tmp_path / "source.gguf", **same, **heads)
    (tmp_path / "tok.bin").write_bytes(tokenizer_bytes(288))
    model = torch_llama.load(torch_llama.Llama(**options), state(source, **heads))
    program = torch.export.export(model, (torch.tensor([TOKENS]),))
    torch.export.save(program, tmp_path / "m.pt2")
    code = (
        "import sys; sys.modules['torch'] = None;"
        "from pathlib import Path; from tinyprof_bridge.models.convert import convert;"
        "convert(Path('m.pt2'), Path('tok.bin'), Path('out.gguf'), 'F32')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    logits = Reference(tmp_path / "out.gguf").logits(TOKENS)
    np.testing.assert_array_equal(logits, Reference(source).logits(TOKENS))
    with torch.no_grad():
        expected = program.module()(torch.tensor([TOKENS]))[0].numpy()
    assert np.abs(logits - expected).max() < 1e-4


def refused(path, message):
    with pytest.raises(BadInput) as raised:
        convert(path, path.with_name("tok.bin"), path.with_name("out.gguf"), "Q8_0")
    line = str(raised.value)
    assert message in line and "\n" not in line and len(line) < 500, line
    assert not path.with_name("out.gguf").exists()


def test_config_json_says_how_rope_is_scaled(tmp_path):
    source = llama3_source(tmp_path / "source.gguf")
    path, program = exported(tmp_path, source, torch.tensor(Reference(source).weights["rope_freqs.weight"]))
    refused(path, "RoPE's scaling is not linear; put the model's config.json into its folder")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"rope_scaling": LLAMA3}))
    convert(path, tmp_path / "tok.bin", tmp_path / "out.gguf", "F32")
    with torch.no_grad():
        expected = program.module()(torch.tensor([TOKENS]))[0].numpy()
    assert np.abs(Reference(tmp_path / "out.gguf").logits(TOKENS) - expected).max() < 1e-4


def test_programs_that_are_none(tmp_path):
    path, _ = exported(tmp_path, make_model(tmp_path / "source.gguf"))
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    weights, constants = (
        next(name for name in members if name.endswith(f"model_{kind}_config.json"))
        for kind in ("weights", "constants")
    )
    listed = json.loads(members[weights])

    def first(**changes):
        name = "model.layers.0.self_attn.q_proj.weight"
        about = listed["config"][name]
        meta = about["tensor_meta"] | {k: v for k, v in changes.items() if k in about["tensor_meta"]}
        about = about | {"tensor_meta": meta} | {k: v for k, v in changes.items() if k not in meta}
        return {weights: json.dumps({"config": listed["config"] | {name: about}}).encode()}

    model = next(name for name in members if name.endswith("models/model.json"))
    sizes = [{"as_int": 64}] * 2
    for changes, message in (
        (first(use_pickle=True), "is not a plain tensor of floats"),
        (first(dtype=5), "is not a plain tensor of floats"),
        (first(sizes=[{"as_int": 64}, {"as_int": 2**40}]), "which do not match its shape"),
        (first(sizes=[{"as_int": -64}, {"as_int": -64}]), "which do not match its shape"),
        (first(sizes=[{"as_expr": "x"}]), "damaged, or not a program"),
        (first(strides=sizes), "is not contiguous"),
        (first(storage_offset={"as_int": 8}), "which do not match its shape"),
        (first(path_name="../x"), "damaged, or not a program"),
        ({weights: b"[" * 99999}, "damaged, or not a program"),
        ({model: b"{}"}, "damaged, or not a program"),
        ({constants: b'{"config": {}}'}, "does not contain RoPE's base"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (members | changes).items():
                archive.writestr(name, data)
        refused(path, message)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(b"aten.silu", b"aten.gelu"))
    refused(path, "has no SiLU, so it is not a llama")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    convert(path, tmp_path / "tok.bin", tmp_path / "out.gguf", "F32")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
    (tmp_path / "out.gguf").unlink()
    refused(path, "from torch.export before 2.8")
