"""``legnet train``: from tiles to weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer

from legnet_cli.commands.console import TERMINATED, print_json
from legnet_cli.commands.options import Terminal, command
from legnet_cli.commands.progress import DownloadBar, ProgressBar
from legnet_cli.engine.train import TrainConfig
from legnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from legnet_cli.engine.train import Score, Step, TrainResult


def _train(config: TrainConfig, terminal: Terminal) -> None:
    """Train a detector; best.safetensors in --out goes straight into predict and eval.

    Example: legnet train --data dota-tiles --recipe oriented-rcnn/legnet-small --out runs/small
    """
    from legnet_cli.engine.process import keep_freed
    from legnet_cli.engine.train import train as run

    keep_freed()
    with ProgressBar("step", quiet=terminal.quiet) as bar, DownloadBar(quiet=terminal.quiet) as arrived:
        result = run(config, lambda step: _show_step(bar, step), arrived.show)
    if result.rank == 0:  # of several processes one reports
        _report(result, config, terminal)
    if result.stopped == "signal":
        raise typer.Exit(TERMINATED)


def _report(result: TrainResult, config: TrainConfig, terminal: Terminal) -> None:
    if terminal.json:
        print_json(_as_dict(result))
    elif not terminal.quiet:
        _show_plan(result) if config.dry_run else _show(result)
    if result.stopped == "signal":
        typer.echo(f"stopped after step {result.step}: legnet train --out {config.out} --resume continues", err=True)


def _make(values: dict[str, Any], _: Terminal) -> TrainConfig:
    if re.fullmatch(r"[a-z_]+(\.\w+)*=.*", str(values["out"])):
        raise ConfigError(f"-o is --out: write --set {values['out']} to change a setting")
    return TrainConfig(**values)


train = command("train", _train, TrainConfig, Terminal, make=_make)


def _show_step(bar: ProgressBar, step: Step) -> None:
    terms = " ".join(
        f"{name.removeprefix('loss_')} {value:.3f}" for name, value in step.losses.items() if name != "loss"
    )
    bar.show(
        step.step,
        step.steps,
        f"epoch {step.epoch}/{step.epochs}, loss {step.losses['loss']:.3f} ({terms}), "
        f"{step.images_per_second:.3g} img/s, {step.waiting:.0%} waiting for data, {step.memory_mb:,.0f} MB",
    )
    if step.score is not None:
        bar.write(f"epoch {step.epoch}: {score_line(step.score)}")


def score_line(score: Score) -> str:
    """What is told of an epoch's evaluation."""
    classes = ", ".join(f"{name} {value:.3f}" for name, value in score.ap50.items())
    text = f"mAP50 {score.map50:.3f}, mAP50:95 {score.map:.3f} ({classes})"
    ignored = ", ".join(f"{name} {count:,}" for name, count in score.ignored_in.items())
    return f"{text}, ignored {score.ignored:,} ({ignored})" if ignored else text


def _as_dict(result: TrainResult) -> dict[str, object]:
    best = result.best
    return {
        "out": str(result.out),
        "epochs": result.epochs,
        "steps": result.step,
        "stopped": result.stopped or None,
        "before": None if result.before is None else {"map50": result.before},
        "best": None if best is None else {"map50": best[0], "epoch": best[1]},
        "cost": None if result.cost is None else vars(result.cost),
        "seconds": round(result.seconds, 3),
        "data": result.check.to_dict(),
        "plan": result.plan.to_dict(),
    }


def _show(result: TrainResult) -> None:
    before = "" if result.before is None else f"{result.before:.3f} before → "
    best = f", best mAP50 {before}{result.best[0]:.3f} in epoch {result.best[1]}" if result.best else ""
    why = {"patience": ", stopped early", "signal": ", stopped"}.get(result.stopped, "")
    typer.echo(
        f"{result.epochs} epochs, {result.step:,} steps{why}{best}, {result.seconds:.0f} s → {result.out}", err=True
    )


def _show_plan(result: TrainResult) -> None:
    import yaml

    typer.echo(yaml.safe_dump(result.plan.to_dict(), sort_keys=False, width=120), nl=False)
    check, cost = result.check, result.cost
    typer.echo(
        f"\n{check.images:,} images, {check.empty:,} without objects, {check.validation:,} for validation", err=True
    )
    typer.echo("sizes: " + ", ".join(f"{size} ({count:,})" for size, count in check.sizes.items()), err=True)
    if check.gsd is not None:
        low, high = (f"{side:g}" for side in check.gsd)
        typer.echo(f"pixels of {low if low == high else f'{low} to {high}'} m on the ground", err=True)
    total = max(1, sum(check.objects.values()))
    for name, count in check.objects.items():
        typer.echo(f"  {name:24} {count:10,} {count / total:6.1%}", err=True)
    if cost is not None:
        epoch = cost.seconds * cost.steps_per_epoch
        typer.echo(
            f"a step of {cost.images} images took {cost.seconds:.2f} s and {cost.memory_mb:,.0f} MB: "
            f"{cost.steps_per_epoch:,} steps, about {epoch / 60:,.1f} minutes an epoch",
            err=True,
        )
