"""The model in training: LoRA or all weights, LIMA's residual dropout ramp, NEFTune, loss on supervised positions only."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from assistant.base_model import loading, quiet_transformers
from assistant.errors import ThousandError
from assistant.template import IGNORE
from train.kernels import head_loss, lora_linear, rms_norm
from train.packing import ATTENTION, Packing
from train.recipe import Recipe


class Learner(nn.Module):
    """A model with its loss: what is trained.

    `model` is a PeftModel or, for full fine-tuning, the causal language model itself. `packed` says whether a
    micro-batch goes through it as one row of packed dialogues, or one dialogue at a time.
    """

    def __init__(self, model: PeftModel | PreTrainedModel, dtype: torch.dtype, neftune_alpha: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.packed = False
        self._neftune_alpha = neftune_alpha

    @property
    def causal(self) -> PreTrainedModel:
        """The causal language model under the adapter, or the model itself."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def trainable(self) -> dict[str, Tensor]:
        """The weights that are learnt, by name: what a checkpoint holds."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def forward(self, input_ids: Tensor, position_ids: Tensor, labels: Tensor, starts: Sequence[int]) -> Tensor:
        """Summed cross-entropy (nats) over the supervised positions of a micro-batch as made by `batches.pack`.

        Positions without a label are dropped before the output head, so no logits exist for them.
        """
        embedded = self._embedded(input_ids, starts)
        supervised = labels != IGNORE
        if not self.packed:
            return torch.stack(
                [
                    self._own_loss(embedded[:, row], position_ids[:, row], labels[row])
                    for row in (slice(first, end) for first, end in pairwise(starts))
                ]
            ).sum()
        hidden = self._hidden(embedded, position_ids, list(starts))[supervised].to(self.dtype)
        head = self.causal.get_output_embeddings()
        with torch.autocast(hidden.device.type, enabled=False):
            return head_loss(hidden, head.weight, getattr(head, "bias", None), labels[supervised])

    def _embedded(self, input_ids: Tensor, starts: Sequence[int]) -> Tensor:
        embedded: Tensor = self.causal.get_input_embeddings()(input_ids)  # (1, T, D)
        if not (self.training and self._neftune_alpha):
            return embedded
        # Jain et al. 2023 (arXiv 2310.05914), algorithm 1: uniform noise of size alpha / sqrt(L D), L a dialogue's length.
        lengths = torch.diff(torch.tensor(starts, device=embedded.device))
        size = self._neftune_alpha / (lengths * embedded.shape[-1]).sqrt()
        noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
        return embedded + (noise * size.repeat_interleave(lengths)[:, None]).to(embedded.dtype)

    def _hidden(self, embedded: Tensor, position_ids: Tensor, starts: list[int]) -> Tensor:
        """The last hidden states (T, D) of one row of packed dialogues."""
        decoder = self.causal.get_decoder()
        hidden: Tensor = decoder(
            inputs_embeds=embedded, position_ids=position_ids, use_cache=False, packing=Packing(starts)
        ).last_hidden_state
        return hidden[0]

    def _own_logits(self, embedded: Tensor, position_ids: Tensor) -> Tensor:
        """The logits (T, V) of one dialogue as the model computes them by itself."""
        logits: Tensor = self.causal(inputs_embeds=embedded, position_ids=position_ids, use_cache=False).logits
        return logits[0]

    def _own_loss(self, embedded: Tensor, position_ids: Tensor, labels: Tensor) -> Tensor:
        logits = self._own_logits(embedded, position_ids)
        return nn.functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")


def load_for_training(folder: Path, recipe: Recipe, dtype: torch.dtype) -> Learner:
    """The base model in `folder`, ready to learn.

    With LoRA the base is frozen in `dtype` and the fresh factors are float32; in full fine-tuning all weights are
    float32 and multiplied in `dtype`.
    """
    quiet_transformers()
    torch.manual_seed(recipe.seed)
    held_in = dtype if recipe.method == "lora" else torch.float32
    with loading(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=held_in, trust_remote_code=False, use_safetensors=True
        )
    model.config.use_cache = False
    if recipe.method == "full":
        learner = Learner(model, dtype, recipe.neftune_alpha)
    else:
        config = LoraConfig(
            r=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        learner = Learner(get_peft_model(model, config), dtype, recipe.neftune_alpha)
    quicken(learner)
    add_residual_dropout(learner, recipe.residual_dropout)
    return learner


def quicken(learner: Learner) -> None:
    """Put this project's faster operations in the place of the model's own where they compute the same.

    Packing is tried on the model itself, on three short rows, and used when the logits of each come out as they do
    alone: a model that mixes neighbouring tokens otherwise than by attention, has a kind of attention unknown here, or
    does something to its logits, is trained one dialogue at a time, by its own forward.
    """
    learner.eval()
    own = learner.causal.config._attn_implementation
    mixed = learner.dtype == torch.bfloat16 and learner.causal.get_input_embeddings().weight.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        alone = _alone(learner)
        for module in learner.modules():
            if isinstance(module, LoraLayer):
                _quicken_lora(module)
            elif "RMSNorm" in type(module).__name__:
                _quicken_norm(module)
        try:
            learner.causal.set_attn_implementation(ATTENTION)
            learner.packed = _packs(learner, alone)
        except Exception:  # whatever a model of unknown make raises, its own forward does without
            learner.packed = False
    if not learner.packed:
        learner.causal.set_attn_implementation(own)
    learner.train()


_STARTS = [0, 12, 24, 36]


def _probe_ids(learner: Learner, more: int = 0) -> Tensor:
    """Three rows of 12 tokens; `more` changes the first of them."""
    ids = torch.arange(36)[None] * 7919
    ids[:, :12] += more
    ids %= learner.causal.get_input_embeddings().weight.shape[0]
    return ids


def _alone(learner: Learner) -> Tensor:
    """The logits (36, V) of the probe's rows, each by itself in the model's own forward."""
    embedded = learner.causal.get_input_embeddings()(_probe_ids(learner))
    rows = [slice(first, end) for first, end in pairwise(_STARTS)]
    positions = torch.arange(12)[None]
    return torch.cat([learner._own_logits(embedded[:, row], positions) for row in rows]).float()


def _differ(one: Tensor, other: Tensor) -> float:
    """The largest relative difference of two rows."""
    return float(((one - other).norm(dim=-1) / other.norm(dim=-1).clamp_min(1e-6)).max())


def _packs(learner: Learner, alone: Tensor) -> bool:
    """Whether packed rows come out as alone.

    In bfloat16 two right ways to compute a model differ by up to a fifth on random tokens, so the three things that
    could be wrong are asked for one by one where they show exactly: that no row sees another, that nothing is done
    to the logits after the head, and then that it is the same model at all.
    """
    if learner.causal.config._attn_implementation != ATTENTION:
        return False
    if getattr(learner.causal.config, "attention_chunk_size", None) or getattr(
        learner.causal.config, "attention_dropout", 0
    ):
        return False  # the one shows in long rows only, the other in training only
    embeddings, head = learner.causal.get_input_embeddings(), learner.causal.get_output_embeddings()
    positions = torch.arange(12).repeat(3)[None]
    hidden, beside_another = (
        learner._hidden(embeddings(_probe_ids(learner, more)), positions, _STARTS) for more in (0, 1)
    )
    if _differ(beside_another[12:].float(), hidden[12:].float()) > 1e-3:
        return False
    logits = head(hidden).float()
    whole = learner.causal(
        inputs_embeds=embeddings(_probe_ids(learner)),
        position_ids=positions,
        use_cache=False,
        packing=Packing(list(_STARTS)),
    ).logits[0]
    if _differ(whole.float(), logits) > 1e-3:
        return False
    return _differ(logits, alone) < (1e-3 if learner.dtype == torch.float32 else 0.3)


def _quicken_lora(layer: LoraLayer) -> None:
    (name,) = layer.active_adapters
    base = layer.get_base_layer()
    if type(base) is not nn.Linear or layer.use_dora.get(name) or layer.lora_bias.get(name):
        return

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        return lora_linear(x, base.weight, base.bias, a, b, layer.scaling[name])

    layer.forward = forward


def _quicken_norm(module: nn.Module) -> None:
    """Llama's norms multiply by the weight, Gemma's by one more than it: which of the two is found by trying."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    if weight is None or weight.requires_grad or weight.ndim != 1 or eps is None:
        return
    x = torch.linspace(-2, 3, 4 * len(weight), device=weight.device).reshape(4, -1)
    expected = module(x)
    for more in (0, 1):
        if torch.allclose(rms_norm(x, weight.float() + more, eps), expected.float(), atol=1e-2, rtol=1e-2):
            module.forward = partial(_norm, weight, more, eps)
            return


def _norm(weight: Tensor, more: int, eps: float, x: Tensor) -> Tensor:
    return rms_norm(x, weight.float() + more, eps)


def dropout_ramp(top: float, layers: int) -> list[float]:
    """The paper's dropout rate of each layer (section 3): 0 at the bottom, rising linearly to `top` at the last."""
    return [float(rate) for rate in torch.linspace(0.0, top, layers, dtype=torch.float64)]


def _decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ThousandError(
            f"Residual dropout does not know the layers of {type(model).__name__}; set residual_dropout to 0."
        )
    return layers


def _branch_ends(layer: nn.Module) -> Iterator[nn.Module]:
    """The modules of a layer whose outputs are added to the residual stream."""
    if hasattr(layer, "post_feedforward_layernorm"):
        yield layer.post_attention_layernorm  # type: ignore[misc]
        yield layer.post_feedforward_layernorm  # type: ignore[misc]
        return
    try:
        yield layer.self_attn.o_proj  # type: ignore[union-attr, misc]
        yield layer.mlp.down_proj  # type: ignore[union-attr, misc]
    except AttributeError:
        raise ThousandError(
            f"Residual dropout does not know where the branches of {type(layer).__name__} end; set residual_dropout to 0."
        ) from None


def add_residual_dropout(learner: Learner, top: float) -> None:
    """Ordinary dropout on both residual branches of every layer while training; the module's own train/eval mode rules."""
    if top == 0:
        return
    layers = _decoder_layers(learner.causal)
    for layer, rate in zip(layers, dropout_ramp(top, len(layers)), strict=True):
        for end in _branch_ends(layer):
            end.register_forward_hook(_Dropout(rate))


class _Dropout:
    """A forward hook that drops out a module's output; its rate stays readable."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, _: tuple[object, ...], output: Tensor) -> Tensor:
        return nn.functional.dropout(output, self.rate, module.training)
