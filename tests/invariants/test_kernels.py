"""The training step's own operations compute what PyTorch's and transformers' do."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from assistant.dialogue import read_dialogues
from assistant.template import IGNORE, Rendered, Template
from train import kernels, packing
from train.batches import pack, render_all
from train.kernels import head_loss, lora_linear, rms_norm
from train.model import Learner, load_for_training, quicken
from train.packing import Packing
from train.recipe import Recipe, preset

RECIPE = preset("laptop").model_copy(update={"vocabulary": "full"})


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of))


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_lora_layer_is_the_frozen_one_plus_its_scaled_factors() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, requires_grad=True)
    weight, bias = torch.randn(6, 8), torch.randn(6)
    a, b = torch.randn(3, 8, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    ours = lora_linear(x, weight, bias, a, b, 2.0)
    plain = functional.linear(x, weight, bias) + 2.0 * (x @ a.t()) @ b.t()
    assert close(ours, plain)
    direction = torch.randn_like(plain)
    for one, other in zip(
        gradients((ours * direction).sum(), x, a, b), gradients((plain * direction).sum(), x, a, b), strict=True
    ):
        assert close(one, other)


def test_the_norm_is_torchs() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 3, 16, requires_grad=True), torch.randn(16)
    ours, plain = rms_norm(x, weight, 1e-6), functional.rms_norm(x, (16,), weight, 1e-6)
    assert close(ours, plain)
    direction = torch.randn_like(plain)
    (one,), (other,) = gradients((ours * direction).sum(), x), gradients((plain * direction).sum(), x)
    assert close(one, other)


@pytest.mark.parametrize("positions", [1, 7, 8, 21])
def test_the_head_in_parts_is_the_cross_entropy_of_the_whole(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "POSITIONS_AT_ONCE", 8)
    torch.manual_seed(positions)
    hidden = torch.randn(positions, 6, requires_grad=True)
    weight, bias = torch.randn(50, 6, requires_grad=True), torch.randn(50, requires_grad=True)
    labels = torch.randint(50, (positions,))
    ours = head_loss(hidden, weight, bias, labels)
    plain = functional.cross_entropy(functional.linear(hidden, weight, bias), labels, reduction="sum")
    assert close(ours, plain)
    for one, other in zip(
        gradients(3 * ours, hidden, weight, bias), gradients(3 * plain, hidden, weight, bias), strict=True
    ):
        assert close(one, other)


def test_a_label_that_is_next_to_impossible_has_a_finite_loss() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[300.0], [0.0]])
    assert float(head_loss(hidden, weight, None, torch.tensor([1]))) == pytest.approx(300.0)


@pytest.mark.parametrize("window", [None, 3, 16])
@pytest.mark.parametrize(("heads", "groups"), [(4, 1), (4, 2), (3, 3)])
def test_packed_attention_is_each_dialogues_own(
    window: int | None, heads: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "QUERIES_AT_ONCE", 4)
    torch.manual_seed(0)
    starts = [0, 1, 10, 23]
    q, k, v = (torch.randn(1, count, 23, 8, requires_grad=True) for count in (heads, groups, groups))
    ours, _ = packing.packed_attention(nn.Module(), q, k, v, None, sliding_window=window, packing=Packing(starts))
    parts = []
    for first, end in pairwise(starts):
        row = torch.arange(end - first)
        seen = row[None] <= row[:, None]
        if window is not None:
            seen &= row[None] > row[:, None] - window
        parts.append(
            functional.scaled_dot_product_attention(
                q[:, :, first:end], k[:, :, first:end], v[:, :, first:end], attn_mask=seen, enable_gqa=True
            )
        )
    plain = torch.cat(parts, 2).transpose(1, 2)
    assert close(ours, plain)
    direction = torch.randn_like(plain)
    for one, other in zip(
        gradients((ours * direction).sum(), q, k, v), gradients((plain * direction).sum(), q, k, v), strict=True
    ):
        assert close(one, other)


def examples_of(base: Path, file: Path) -> list[Rendered]:
    return render_all(read_dialogues([file]), Template.load(base), 1024).rendered


def adapted(base: Path, recipe: Recipe = RECIPE) -> Learner:
    """A learner whose adapter does something."""
    learner = load_for_training(base, recipe, torch.float32)
    torch.manual_seed(1)
    for name, weight in learner.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    return learner


def test_truth_3_packed_loss_equals_unpacked_loss(tiny_base: Path, dialogues_file: Path) -> None:
    examples = examples_of(tiny_base, dialogues_file)
    assert max(len(example.ids) for example in examples) > 16, "longer than the tiny model's sliding window"
    learner = adapted(tiny_base)
    assert learner.packed
    together = learner(**pack(examples))
    together.backward()
    packed = {name: weight.grad.clone() for name, weight in learner.trainable().items()}
    learner.zero_grad()
    learner.packed = False
    learner.causal.set_attn_implementation("sdpa")
    apart = torch.stack([learner(**pack([example])) for example in examples]).sum()
    apart.backward()
    assert float(together) == pytest.approx(float(apart), rel=1e-5)
    for name, weight in learner.trainable().items():
        assert torch.allclose(packed[name], weight.grad, rtol=1e-3, atol=1e-4), name


def test_the_loss_is_that_of_plain_transformers(tiny_base: Path, dialogues_file: Path) -> None:
    examples = examples_of(tiny_base, dialogues_file)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    expected = sum(
        functional.cross_entropy(
            model(torch.tensor([example.ids])).logits[0],
            torch.tensor(example.labels),
            ignore_index=IGNORE,
            reduction="sum",
        )
        for example in examples
    )
    fresh = load_for_training(tiny_base, RECIPE, torch.float32)
    assert float(fresh(**pack(examples))) == pytest.approx(float(expected), rel=1e-5)


def test_no_dialogue_attends_to_its_neighbour(tiny_base: Path, dialogues_file: Path) -> None:
    first, second = examples_of(tiny_base, dialogues_file)[1:3]
    learner = adapted(tiny_base).eval()
    other = Rendered([token + 1 for token in first.ids], first.labels, first.turn_ends)

    def of_second(neighbour: Rendered) -> Tensor:
        row = pack([neighbour, second])
        embedded = learner.causal.get_input_embeddings()(row["input_ids"])
        return learner._hidden(embedded, row["position_ids"], row["starts"])[len(neighbour.ids) :]

    assert torch.equal(of_second(first), of_second(other))


def test_a_model_that_mixes_neighbours_is_trained_one_dialogue_at_a_time(
    tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = examples_of(tiny_base, dialogues_file)
    expected = float(load_for_training(tiny_base, RECIPE, torch.float32)(**pack(examples)))

    def leaking(*arguments: object, packing: Packing, **options: object) -> object:
        whole = Packing([0, packing.starts[-1]])
        return real(*arguments, packing=whole, **options)

    real = packing.packed_attention
    monkeypatch.setitem(packing.AttentionInterface._global_mapping, packing.ATTENTION, leaking)
    learner = load_for_training(tiny_base, RECIPE, torch.float32)
    assert not learner.packed
    assert float(learner(**pack(examples))) == pytest.approx(expected, rel=1e-5)


def test_neftune_adds_noise_of_the_papers_size_while_training_only(tiny_base: Path, dialogues_file: Path) -> None:
    examples = examples_of(tiny_base, dialogues_file)
    learner = load_for_training(tiny_base, RECIPE.model_copy(update={"neftune_alpha": 5.0}), torch.float32)
    row = pack(examples)
    plain = learner.causal.get_input_embeddings()(row["input_ids"])
    noise = (learner._embedded(row["input_ids"], row["starts"]) - plain)[0]
    for first, end in pairwise(row["starts"]):
        size = 5.0 / ((end - first) * plain.shape[-1]) ** 0.5
        assert float(noise[first:end].abs().max()) == pytest.approx(size, rel=0.05)
    learner.eval()
    assert torch.equal(learner._embedded(row["input_ids"], row["starts"]), plain)


def test_full_fine_tuning_trains_every_weight_and_its_gradients_are_plain_ones(
    tiny_base: Path, dialogues_file: Path
) -> None:
    examples = examples_of(tiny_base, dialogues_file)
    learner = load_for_training(tiny_base, RECIPE.model_copy(update={"method": "full"}), torch.float32)
    learner(**pack(examples)).backward()
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    for example in examples:
        functional.cross_entropy(
            model(torch.tensor([example.ids])).logits[0],
            torch.tensor(example.labels),
            ignore_index=IGNORE,
            reduction="sum",
        ).backward()
    plain = dict(model.named_parameters())
    assert {name.removeprefix("model.") for name in learner.trainable()} == set(plain)
    for name, weight in learner.trainable().items():
        assert torch.allclose(weight.grad, plain[name.removeprefix("model.")].grad, rtol=1e-3, atol=1e-3), name


def test_a_model_that_scales_its_logits_is_trained_by_its_own_forward(tiny_base: Path, dialogues_file: Path) -> None:
    """Gemma 2's cap on the logits stands for all that a model may do after its head."""
    examples = examples_of(tiny_base, dialogues_file)
    learner = load_for_training(tiny_base, RECIPE, torch.float32)
    assert learner.packed
    learner.packed = False
    learner.causal.set_attn_implementation("sdpa")
    learner.causal.config.final_logit_softcapping = 0.05
    quicken(learner)
    assert not learner.packed
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.config.final_logit_softcapping = 0.05
    expected = sum(
        functional.cross_entropy(
            model(torch.tensor([example.ids])).logits[0], torch.tensor(example.labels), reduction="sum"
        )
        for example in examples
    )
    assert float(learner(**pack(examples))) == pytest.approx(float(expected), rel=1e-5)
