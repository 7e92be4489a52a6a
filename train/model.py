"""The model in training: LoRA, LIMA's residual dropout ramp, loss on supervised positions only."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from assistant.base_model import loading, quiet_transformers
from assistant.errors import ThousandError
from assistant.template import IGNORE
from train.recipe import Recipe


def fast_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (a GPU that can; a CPU with avx512_bf16 or AMX), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def load_for_training(folder: Path, recipe: Recipe, dtype: torch.dtype) -> PeftModel:
    """The base model in `folder` with fresh float32 LoRA factors on every linear layer but the head, and residual dropout."""
    quiet_transformers()
    torch.manual_seed(recipe.seed)
    with loading(folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False, use_safetensors=True)
    model.config.use_cache = False
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    add_residual_dropout(adapted, recipe.residual_dropout)
    return adapted


def dropout_ramp(top: float, layers: int) -> list[float]:
    """The paper's dropout rate of each layer (section 3): 0 at the bottom, rising linearly to `top` at the last."""
    return [float(rate) for rate in torch.linspace(0.0, top, layers, dtype=torch.float64)]


def _decoder_layers(model: PeftModel) -> nn.ModuleList:
    layers = getattr(model.get_base_model().get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ThousandError(
            f"Residual dropout does not know the layers of {type(model.get_base_model()).__name__}; set residual_dropout to 0."
        )
    return layers


def _branch_ends(layer: nn.Module) -> list[nn.Module]:
    """The modules of a layer whose outputs are added to the residual stream."""
    if hasattr(layer, "post_feedforward_layernorm"):
        return [layer.post_attention_layernorm, layer.post_feedforward_layernorm]  # type: ignore[list-item]
    try:
        return [layer.self_attn.o_proj, layer.mlp.down_proj]  # type: ignore[union-attr, list-item]
    except AttributeError:
        raise ThousandError(
            f"Residual dropout does not know where the branches of {type(layer).__name__} end; set residual_dropout to 0."
        ) from None


def add_residual_dropout(model: PeftModel, top: float) -> None:
    """Ordinary dropout on both residual branches of every layer while training; the module's own train/eval mode rules."""
    if top == 0:
        return
    layers = _decoder_layers(model)
    for layer, rate in zip(layers, dropout_ramp(top, len(layers)), strict=True):
        for end in _branch_ends(layer):
            end.register_forward_hook(_Dropout(rate))


class _Dropout:
    """A forward hook that drops out a module's output; its rate stays readable."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, module: nn.Module, _: tuple[object, ...], output: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(output, self.rate, module.training)


def supervised_loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Summed cross-entropy (nats) over the supervised positions of one micro-batch.

    `inputs` as made by `MicroBatches`. Positions without a label are dropped before the output head, so no logits
    exist for them.
    """
    labels = inputs["shift_labels"]  # (B, T)
    supervised = labels != IGNORE
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        logits_to_keep=supervised,
        use_cache=False,
    ).logits  # (supervised positions, V)
    return nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels[supervised], reduction="sum"
    )
