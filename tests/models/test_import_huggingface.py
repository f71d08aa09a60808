"""Folders of Hugging Face in: the logits are those of the source, and what boards lack or is damaged gets one line."""

import json
import random
import struct
from itertools import product

import numpy as np
import pytest
from fuzzing import fuzz, mutated, refused_or_read
from gguf import GGUFReader
from hf_folders import CONFIG, GREEDY, LLAMA3, OTHERS, llama3_source, make_folder, state, tokenizer_json
from hypothesis import given
from hypothesis import strategies as st
from models import make_model
from on_board import ROOT, board
from reference import Reference, encode, metadata
from tinyprof_bridge.errors import BadInput
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.models.formats import gguf
from tinyprof_bridge.models.numpy_llama import Forward

TOKENS = [1, 270, 40, 280, 3, 259]
TEXTS = ("the cat in a boat", " Zoë 日", "a\nb c", "Ein Satz, der lang ist: 12345!")


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_the_source_s(tmp_path, tied, shards):
    source = make_model(tmp_path / "source.gguf", tied=tied, rope_scale=2.0, rope_base=5e4, eps=1e-3)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e4}
    make_folder(
        tmp_path / "hf", state(source), shards, tie_word_embeddings=tied, rms_norm_eps=1e-3, rope_parameters=rope
    )
    summary = convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    assert summary.notes == ()
    np.testing.assert_array_equal(Reference(tmp_path / "out.gguf").logits(TOKENS), Reference(source).logits(TOKENS))
    for key in ("tokens", "token_type", "bos_token_id", "eos_token_id", "add_bos_token", "add_space_prefix"):
        key = f"tokenizer.ggml.{key}"
        assert metadata(GGUFReader(tmp_path / "out.gguf"), key) == metadata(GGUFReader(source), key)
    for text in TEXTS:
        assert encode(GGUFReader(tmp_path / "out.gguf"), text) == encode(GGUFReader(source), text)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures(tmp_path, kind):
    """The same tensors under the same names, and so the same logits; all types that boards have keep near them."""
    options, changes = OTHERS[kind]
    source = make_model(tmp_path / "source.gguf", architecture=kind, rope_base=1e6, **options)
    make_folder(tmp_path / "hf", state(source), **{"model_type": kind, "rope_theta": 1e6} | changes)
    out = tmp_path / "out.gguf"
    assert convert(tmp_path / "hf", None, out, "F32").notes == ()
    ours, theirs = Reference(out), Reference(source)
    assert ours.architecture == kind and ours.context == theirs.context
    np.testing.assert_array_equal(ours.logits(TOKENS), theirs.logits(TOKENS))
    for type_ in ("Q8_0", "TP3", "KEEP"):  # and from GGUF to GGUF
        assert convert(out, None, tmp_path / "again.gguf", type_).notes == ()
    np.testing.assert_array_equal(Reference(tmp_path / "again.gguf").logits(TOKENS), theirs.logits(TOKENS))


@pytest.mark.parametrize("dtype,most", [("float16", 0.01), ("bfloat16", 0.1)])
def test_half_precision(tmp_path, dtype, most):
    tensors = state(make_model(tmp_path / "source.gguf"))
    if dtype == "float16":
        make_folder(tmp_path / "hf", {n: t.astype(np.float16) for n, t in tensors.items()})
    else:
        make_folder(tmp_path / "hf", {n: (t.view("<u4") >> 16).astype("<u2") for n, t in tensors.items()})
        file = tmp_path / "hf" / "model.safetensors"
        data = file.read_bytes()
        size = int.from_bytes(data[:8], "little") + data.count(b'"U16"')
        file.write_bytes(struct.pack("<Q", size) + data[8:].replace(b'"U16"', b'"BF16"'))
    convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    expected = Reference(tmp_path / "source.gguf").logits(TOKENS)
    assert 0 < np.abs(Reference(tmp_path / "out.gguf").logits(TOKENS) - expected).max() < most


@pytest.mark.parametrize("kind", [*OTHERS, "llama3"])
def test_imported_models_say_the_same_in_llama_cpp(tmp_path, kind):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    if kind == "llama3":
        make_folder(tmp_path / "hf", state(llama3_source(tmp_path / "source.gguf")), rope_scaling=LLAMA3)
    else:
        options, changes = OTHERS[kind]
        source = make_model(tmp_path / "source.gguf", architecture=kind, **options)
        make_folder(tmp_path / "hf", state(source), **{"model_type": kind, "rope_theta": 1e4} | changes)
    convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    model = llama_cpp.Llama(str(tmp_path / "out.gguf"), n_ctx=64, verbose=False, type_k=0, type_v=0, flash_attn=False)
    theirs = [token for token, _ in zip(model.generate(TOKENS, temp=0), range(32), strict=False)]
    with board("unix", tmp_path / "out.gguf") as b:
        assert [int(t) for t in b.run(GREEDY.format(source=b.source, tokens=TOKENS)).split()] == theirs


ROPES = {
    "none": {},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0}},
    "llama3": {"rope_parameters": LLAMA3 | {"rope_theta": 20000.0}},
    "two kinds": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        }
    },
}


KINDS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")
SCALED = [*product(KINDS, ("none", "linear")), ("llama", "llama3"), ("mistral", "llama3")]
SCALED += [("gemma3_text", "none"), ("gemma3_text", "two kinds")]
# What makes windows and caps show in a few tokens of a small model; query_pre_attn_scalar is not the size of a head.
GEMMAS = {
    "gemma2": {
        "sliding_window": 3,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 4.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        "sliding_window": 3,
        "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


@pytest.mark.parametrize("kind,scaling", SCALED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_agrees(tmp_path, kind, scaling, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = (
        {k: v for k, v in CONFIG.items() if k not in ("model_type", "eos_token_id")}
        | {"eos_token_id": 2}
        | ROPES[scaling]
        | GEMMAS.get(kind, {})
    )
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **sizes, initializer_range=0.3)
    ).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, values in model.named_parameters():  # which are all 0, or all 1, to begin with
            if name.endswith(("bias", "norm.weight")):
                values += torch.randn(values.shape) * 0.2
    model.save_pretrained(tmp_path / "hf", max_shard_size="40KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float64)
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    # cosines and sines are float32 there
    assert np.abs(Reference(tmp_path / "out.gguf").logits(TOKENS) - expected).max() < 1e-4


def test_tokenizers_agrees(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    make_folder(tmp_path / "hf")
    convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    for text in TEXTS:
        assert encode(GGUFReader(tmp_path / "out.gguf"), text) == theirs.encode(text).ids


@pytest.fixture(scope="module")
def piece_model(tmp_path_factory):
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    prefix = tmp_path_factory.mktemp("spm") / "spm"
    for kind in ("bpe", "unigram"):
        spm.SentencePieceTrainer.train(
            input=str(ROOT / "docs" / "models.md"), model_prefix=f"{prefix}-{kind}", vocab_size=400, model_type=kind,
            byte_fallback=True, normalization_rule_name="identity", minloglevel=2,
        )  # fmt: skip
    return prefix


def test_sentencepiece_agrees(tmp_path, piece_model):
    import sentencepiece as spm

    tensors = state(make_model(tmp_path / "source.gguf", vocab=410))
    folder = make_folder(tmp_path / "hf", tensors, vocab_size=410)
    (folder / "tokenizer.model").write_bytes(piece_model.with_name("spm-bpe.model").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    convert(folder, None, tmp_path / "out.gguf", "F32")
    reader = GGUFReader(tmp_path / "out.gguf")
    theirs = spm.SentencePieceProcessor(model_file=str(piece_model.with_name("spm-bpe.model")))
    for text in (*TEXTS[:1], "RAM needed besides: the arena and the KV cache", "Größe 日本"):
        assert encode(reader, text, bos=False) == theirs.encode(text)
    assert metadata(reader, "tokenizer.ggml.add_bos_token") is False
    assert metadata(reader, "tokenizer.ggml.tokens")[400:] == [f"[PAD{i}]" for i in range(400, 410)]
    (folder / "tokenizer.model").write_bytes(piece_model.with_name("spm-unigram.model").read_bytes())
    with pytest.raises(BadInput, match="of type UNIGRAM is not supported; only BPE is"):
        convert(folder, None, tmp_path / "out.gguf", "F32")


def test_merges_that_are_not_sentencepiece_s_are_noted(tmp_path):
    folder = make_folder(tmp_path / "hf")
    changed = tokenizer_json()
    del changed["model"]["merges"][-1]
    (folder / "tokenizer.json").write_text(json.dumps(changed))
    summary = convert(folder, None, tmp_path / "out.gguf", "F32")
    assert len(summary.notes) == 1 and "may differ" in summary.notes[0]


def test_rope_scaled_as_llama_3_has_it(tmp_path):
    source, out = llama3_source(tmp_path / "source.gguf"), tmp_path / "out.gguf"
    make_folder(tmp_path / "hf", state(source), rope_scaling=LLAMA3)
    assert convert(tmp_path / "hf", None, out, "F32").notes == ()
    exact = Reference(source).logits(TOKENS)
    assert np.abs(Reference(out).logits(TOKENS) - exact).max() < 1e-5
    assert np.abs(Reference(make_model(tmp_path / "none.gguf")).logits(TOKENS) - exact).max() > 0.1
    model = gguf.read(out)
    ours = Forward(model.tensors, model.sizes).run(np.array([TOKENS]))[0]
    assert np.abs(ours - exact).max() < 1e-4
    for type_ in ("Q8_0", "KEEP"):  # and from GGUF to GGUF
        assert convert(out, None, tmp_path / "again.gguf", type_).notes == ()
    assert np.array_equal(Reference(tmp_path / "again.gguf").freqs, Reference(out).freqs)


def test_a_sliding_window_is_the_longest_context(tmp_path):
    make_folder(tmp_path / "hf", model_type="mistral", sliding_window=16)
    convert(tmp_path / "hf", None, tmp_path / "out.gguf", "F32")
    assert Reference(tmp_path / "out.gguf").context == 16


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"model_type": "gemma3"}, "'gemma3' is not supported: it takes images"),
        (
            {"model_type": "gemma2", "attn_logit_softcapping": None},
            "not supported: attn_logit_softcapping None with final_logit_softcapping 0.0",
        ),
        (
            {"model_type": "gemma3_text", "final_logit_softcapping": 3.0},
            "attn_logit_softcapping 0.0 with final_logit_softcapping 3.0",
        ),
        ({"model_type": "gemma2", "hidden_activation": "gelu"}, "not supported: hidden_act 'gelu'"),
        (
            {"model_type": "gemma2", "layer_types": ["full_attention", "sliding_attention"]},
            "not supported: layer_types in which full_attention does not come at a fixed interval",
        ),
        ({"model_type": "gemma2", "sliding_window": -5}, "window is -5"),
        ({"rope_parameters": {"sliding_attention": {}}}, "not supported: RoPE of two kinds"),
        (
            {"model_type": "gemma3_text", "rope_parameters": {"sliding_attention": {"rope_type": "linear"}}},
            "not supported: rope scaling 'linear' in layers with a sliding window",
        ),
        ({"model_type": "gemma3_text", "rope_local_base_freq": 0.5}, "of layers with a sliding window is 0.5, outside"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 1e-300}, "query_pre_attn_scalar: Input should be"),
        ({"model_type": "gemma", "hidden_act": "silu"}, "not supported: hidden_act 'silu'"),
        ({"model_type": "gemma", "tie_word_embeddings": False}, "not supported: a gemma whose output is not tied"),
        ({"model_type": "gemma", "use_bidirectional_attention": True}, "not supported: use_bidirectional_attention"),
        (
            {"model_type": "gpt2"},
            "'gpt2' is not supported: only llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text are",
        ),
        ({"hidden_act": "gelu_pytorch_tanh"}, "not supported: hidden_act 'gelu_pytorch_tanh'"),
        ({"attention_bias": True}, "not supported: attention_bias"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor 0.0, high_freq_factor 0.0 and"),
        ({"model_type": "qwen3", "rope_scaling": LLAMA3}, "not supported: rope scaling 'llama3'"),
        ({"rope_scaling": LLAMA3 | {"factor": 0.0}}, "factor of rope scaling is 0.0, outside"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "not supported: rope scaling 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 0.0}}, "factor of rope scaling is 0.0, outside"),
        ({"rope_theta": 1e39}, "rope_theta is 1e+39, outside"),
        ({"head_dim": 32}, "blk.0.attn_q.weight is 64 x 64, but the model's sizes require 128 x 64"),
        ({"head_dim": 15}, "does not divide into 4 heads of even size"),
        ({"model_type": "qwen2"}, "tensor blk.0.attn_q.bias is missing"),
        ({"quantization_config": {}}, "already quantized"),
        ({"rms_norm_eps": 1e-40}, "rms_norm_eps: Input should be greater than 0.0000"),
        ({"hidden_size": 0}, "hidden_size: Input should be greater than 0"),
        ({"hidden_size": "x"}, "hidden_size: Input should be a valid integer"),
        ({"num_attention_heads": 5}, "dim 64 does not divide into 5 heads"),
        ({"num_hidden_layers": 3}, "tensor blk.2.attn_norm.weight is missing"),
        ({"num_hidden_layers": 1}, "tensor 'model.layers.1.input_layernorm.weight' is not supported"),
        ({"vocab_size": 300}, "token_embd.weight is 288 x 64, but the model's sizes require 300 x 64"),
        ({"tie_word_embeddings": False}, "lm_head.weight) are missing"),
        ({"bos_token_id": 288}, "bos token 288 is outside the vocabulary of 288"),
    ],
)
def test_what_boards_lack_or_is_wrong(tmp_path, changes, message):
    refused(make_folder(tmp_path / "hf", **changes), message)


def refused(folder, message):
    with pytest.raises(BadInput) as raised:
        convert(folder, None, folder / "out.gguf", "Q8_0")
    line = str(raised.value)
    assert message in line and "\n" not in line and len(line) < 500, line
    assert not (folder / "out.gguf").exists()


def test_tensors_of_other_kinds(tmp_path):
    tensors = state(make_model(tmp_path / "source.gguf"))
    rope = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    convert(make_folder(tmp_path / "hf", tensors | rope), None, tmp_path / "out.gguf", "F32")
    bias = {"model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32)}
    refused(make_folder(tmp_path / "hf", tensors | bias), "q_proj.bias' is not supported")
    norm = {"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}
    refused(make_folder(tmp_path / "hf", tensors | norm), "q_norm.weight' is not supported")
    first = "model.embed_tokens.weight"
    refused(make_folder(tmp_path / "hf", tensors | {first: tensors[first].astype(np.int8)}), "is of type I8")
    refused(make_folder(tmp_path / "hf", tensors | {first: tensors[first] * np.nan}), "contains NaN or infinity")


def test_a_folder_that_lacks_files(tmp_path):
    folder = make_folder(tmp_path / "hf", shards=2)
    (folder / "model-1.safetensors").unlink()
    refused(folder, "model-1.safetensors is missing")
    index = folder / "model.safetensors.index.json"
    for name in ("../model-0.safetensors", "/etc/passwd", "a/b"):
        index.write_text(json.dumps({"weight_map": {"x": name}}))
        refused(folder, "is not the name of a file in the folder")
    index.write_text("[1]")
    refused(folder, "not a JSON object")
    index.write_text("[" * 100000)
    refused(folder, "not valid JSON")
    index.unlink()
    refused(folder, "has no weights; it needs model.safetensors, pytorch_model.bin, or")
    folder = make_folder(tmp_path / "hf", tokens=False)
    (folder / "tokenizer.json").unlink()
    refused(folder, "has no tokenizer; put tokenizer.model, tokenizer.json, or vocab.json")
    (folder / "config.json").write_text("{" * 100000)
    refused(folder, "config.json: not valid JSON")
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_embd": 64}')
    refused(folder, "model_type 'gpt2' is not supported: only llama")
    (folder / "config.json").unlink()
    refused(folder, "needs a config.json")


def change(**parts):
    def edit(parsed):
        parsed["model"] |= parts
        return parsed

    return edit


@pytest.mark.parametrize(
    "edit,message",
    [
        (change(byte_fallback=False), "of type BPE without byte fallback is not supported"),
        (change(type="Unigram"), "is not supported"),
        (change(vocab=[["a", 0.5]]), "is not supported; only BPE is"),
        (change(vocab={"a": "b"}), "damaged: its vocabulary"),
        (change(vocab={"a": 2**40}), "damaged: its vocabulary"),
        (change(vocab={"a": 5}), "number is missing, or used twice"),
        (change(merges=[["a"]]), "damaged: its vocabulary"),
        (change(merges=["ab"]), "damaged: its vocabulary"),
        (change(merges=None), "damaged: its vocabulary"),
        (lambda p: p | {"added_tokens": [{"id": 400, "content": "x"}]}, "number is missing, or used twice"),
        (lambda p: p | {"added_tokens": [{"id": 288, "content": "x"}]}, "has 289 tokens, the embedding has 288 rows"),
        (lambda p: p | {"added_tokens": [{"id": 3, "content": "<s>"}]}, "token '<s>' occurs twice"),
        (lambda p: p | {"added_tokens": [{"id": 3, "content": "\ud800"}]}, "is not valid Unicode"),
        (lambda p: p | {"added_tokens": 3}, "damaged: its vocabulary"),
        (lambda p: {"model": 3}, "is not supported; only BPE is"),
    ],
)
def test_bad_tokenizers(tmp_path, edit, message):
    folder = make_folder(tmp_path / "hf")
    (folder / "tokenizer.json").write_text(json.dumps(edit(tokenizer_json())))
    refused(folder, message)


@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda d: b"", "truncated"),
        (lambda d: d[:100], "truncated"),
        (lambda d: d[:-1], "damaged, or not a safetensors file"),
        (lambda d: struct.pack("<Q", 2**63) + d[8:], "truncated"),
        (lambda d: d[:8] + b"[" * 3000 + d[3008:], "damaged, or not a safetensors file"),
        (lambda d: d.replace(b'"shape":[288,64]', b'"shape":[288,32]'), "damaged, or not a safetensors file"),
        (lambda d: d.replace(b'"data_offsets":[0,', b'"data_offsets":[8,'), "damaged, or not a safetensors file"),
    ],
)
def test_bad_safetensors(tmp_path, edit, message):
    folder = make_folder(tmp_path / "hf")
    file = folder / "model.safetensors"
    file.write_bytes(edit(file.read_bytes()))
    refused(folder, message)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    make_folder(folder / "hf")
    return folder / "hf", {path: path.read_bytes() for path in (folder / "hf").iterdir() if path.suffix != ".gguf"}


@fuzz(100)
@given(which=st.sampled_from(["config.json", "model.safetensors", "tokenizer.json"]), seed=st.integers(0, 2**64))
def test_damaged_folders_are_read_or_refused(good, which, seed):
    folder, files = good
    rng = random.Random(seed)
    for path, data in files.items():
        path.write_bytes(mutated(rng, data) if path.name == which else data)
    with refused_or_read(sum(map(len, files.values()))):
        convert(folder, None, folder.with_name("out.gguf"), "Q8_0")
