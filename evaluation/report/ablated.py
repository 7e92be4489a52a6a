"""The ablations on the release's base: what quality, diversity and quantity of the data, and the chains, are worth."""

from typing import get_args

from assistant.release import Release
from evaluation import ablation_page
from evaluation.ablations import Kind, folder, read_ablations
from evaluation.report.blocks import Block, Grid, Picture, Section, Words


def ablations(record: Release) -> Section:
    """Every ablation here that was trained from the same base, whole or not."""
    missing: list[str] = []
    known = read_ablations(lambda error: missing.append(str(error)))
    found = [one for one in known if one.base_checksum == record.base_checksum]
    blocks: list[Block] = []
    for one in found:
        blocks.append(
            Words(
                f"{one.kind} ({one.name}, {one.made:%Y-%m-%d}). {' '.join(f'{arm.name}: {arm.what}.' for arm in one.arms)}"
            )
        )
        blocks.append(Grid(("", *[arm.name for arm in one.arms]), ablation_page.rows(one)))
        picture = folder() / one.name / "ablation.png"
        if picture.exists():
            alt = f"Measures by arm of the ablation {one.name}; the numbers stand in the table above"
            blocks.append(Picture(f"ablation-{one.name}.png", alt, picture.read_bytes()))
        blocks += map(Words, ablation_page.remarks(one))
    missing += [
        f"ablation, {kind}: thousand evaluate ablate {kind}"
        for kind in get_args(Kind)
        if kind not in {one.kind for one in found}
    ]
    return Section("Ablations", blocks, missing)
