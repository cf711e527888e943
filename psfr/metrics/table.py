"""The reimplementation's table of results: a row for each variant of the test images, with its four metrics."""

from psfr.params import RESERVED_NAMES

COLUMNS = {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "fid": "FID ↓"}
MISSING = "\N{EN DASH}"


def to_markdown(summary: dict) -> str:
    """Format the result of `report.summarize` as a Markdown table.

    Below the table, a line for each metric says why values are missing and how the metric was computed.
    """
    variants = {name: values for name, values in summary.items() if name not in RESERVED_NAMES - {"degraded"}}
    lines = [f"| model | {' | '.join(COLUMNS.values())} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, values in variants.items():
        cells = [MISSING if values[metric] is None else f"{values[metric]:.4f}" for metric in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for metric, title in COLUMNS.items():
        remarks = []
        if any(values[metric] is None for values in variants.values()):
            remarks += summary["reasons"].get(metric, [])
        remarks += summary["notes"].get(metric, [])
        lines += [f"\n{title.split()[0]}: {remark}." for remark in remarks]
    return "\n".join(lines) + "\n"
