"""The article's table: a row for each version of the test images, its four metrics in its order and with its digits."""

HEADS = {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "fid": "FID ↓"}
NOTHING = "–"


def markdown(summary: dict) -> str:
    """What `report.summary` gives as a table in Markdown; below it why a figure is missing, and what to know of a metric."""
    versions = {name: values for name, values in summary.items() if name not in ("intervals", "reasons", "notes")}
    lines = [f"| model | {' | '.join(HEADS.values())} |", "| --- |" + " ---: |" * len(HEADS)]
    lines += [
        f"| {name} | {' | '.join(_figure(values[metric]) for metric in HEADS)} |" for name, values in versions.items()
    ]
    for metric, head in HEADS.items():
        missing = any(values[metric] is None for values in versions.values())
        remarks = (summary["reasons"].get(metric, []) if missing else []) + summary["notes"].get(metric, [])
        lines += [f"\n{head.split()[0]}: {remark}." for remark in remarks]
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
