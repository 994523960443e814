"""The figures as a plot: one panel for each workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["draw"]

_STYLES = {
    "s3fifo": ("tab:red", "-", 2.2),
    "lru": ("tab:blue", "-", 1.4),
    "fifo": ("tab:gray", "-", 1.4),
    "cachetools LRU": ("tab:cyan", ":", 1.4),
    "theine": ("tab:green", "--", 1.4),
    "LocMem": ("tab:orange", "--", 1.4),
    "Belady": ("black", ":", 1.2),
}


def draw(ratios: Mapping[str, Mapping[str, Mapping[float, float]]], path: Path) -> None:
    """Write the plot of the ratios, by workload, contender and size in percent."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(ratios) // 4)
    figure, panels = plt.subplots(
        rows, 4, figsize=(13, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for panel, (workload, by_contender) in zip(
        panels.flat, ratios.items(), strict=False
    ):
        for contender, by_size in by_contender.items():
            color, dashes, width = _STYLES[contender]
            panel.plot(
                list(by_size),
                [100 * ratio for ratio in by_size.values()],
                dashes,
                color=color,
                linewidth=width,
                label=contender,
            )
        panel.set_xscale("log")
        panel.set_xticks(list(by_size), [f"{size:g}" for size in by_size])
        panel.minorticks_off()
        panel.set_title(workload, fontsize=10)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(ratios) :]:
        panel.set_axis_off()
    figure.supxlabel("entries, % of the distinct keys", fontsize=10)
    figure.supylabel("hit ratio, %", fontsize=10)
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(_STYLES),
        fontsize=9,
    )
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
