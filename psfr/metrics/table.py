"""Tables of results, a row for each variant of the test images: the reimplementation's, and further metrics."""

from psfr.params import RESERVED_NAMES

# The metrics of each column (several are joined by a slash), its title and the format of its values.
COLUMNS = {
    ("psnr",): ("PSNR ↑", ".4f"),
    ("ssim",): ("SSIM ↑", ".4f"),
    ("lpips",): ("LPIPS ↓", ".4f"),
    ("fid",): ("FID ↓", ".4f"),
}
FURTHER_COLUMNS = {
    ("st_lpips",): ("ST-LPIPS ↓", ".3f"),
    ("identity",): ("identity ↓", ".3f"),
    ("fixed_pattern_horizontal", "fixed_pattern_vertical"): ("fixed pattern ↓", ".2f"),
    ("tint",): ("tint ↓", ".1f"),
    ("frechet_alexnet",): ("Fréchet AlexNet ↓", ".4f"),
    ("frechet_vgg16",): ("Fréchet VGG16 ↓", ",.0f"),
}
# Shown only if a variant has a value: they need a reference set, larger images or weights that users name.
FIELD_COLUMNS = {
    ("fid_reference",): ("FID to the reference ↓", ".2f"),
    ("kid",): ("KID ↓", ".5f"),
    ("niqe",): ("NIQE ↓", ".3f"),
    ("lmd",): ("LMD ↓", ".2f"),
    ("deg",): ("Deg ↓", ".2f"),
}
MISSING = "\N{EN DASH}"


def to_markdown(summary: dict) -> str:
    """Format the content of evaluation.json as Markdown tables, below the name of a named test set.

    Below each table, lines say why values are missing and how the metrics were computed.
    """
    variants = {name: values for name, values in summary.items() if name not in RESERVED_NAMES - {"degraded"}}
    groups = (COLUMNS, FURTHER_COLUMNS, _field_columns(variants))
    tables = [_table(columns, variants, summary) for columns in groups if columns]
    if "testset" in summary:
        tables.insert(0, f"Test set {summary['testset']}, {summary['images']} images:")
    return "\n\n".join(tables) + "\n"


def _field_columns(variants: dict[str, dict]) -> dict:
    """Return the columns of `FIELD_COLUMNS` and of the metrics of pyiqa that have values."""
    computed = {metric for values in variants.values() for metric, value in values.items() if value is not None}
    columns = {metrics: column for metrics, column in FIELD_COLUMNS.items() if computed.intersection(metrics)}
    known = {metric for group in (COLUMNS, FURTHER_COLUMNS, FIELD_COLUMNS) for metrics in group for metric in metrics}
    return columns | {(metric,): (metric, ".4f") for metric in sorted(computed - known)}


def _table(columns: dict, variants: dict[str, dict], summary: dict) -> str:
    titles = [title for title, _ in columns.values()]
    lines = [f"| model | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(columns)]
    for name, values in variants.items():
        cells = [
            " / ".join(MISSING if values[metric] is None else format(values[metric], spec) for metric in metrics)
            for metrics, (_, spec) in columns.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    titles_by_remark: dict[str, list[str]] = {}
    for metrics, (title, _) in columns.items():
        remarks = []
        for metric in metrics:
            if any(values[metric] is None for values in variants.values()):
                remarks += summary["reasons"].get(metric, [])
            remarks += summary["notes"].get(metric, [])
        for remark in dict.fromkeys(remarks):
            titles_by_remark.setdefault(remark, []).append(title.rstrip(" ↑↓"))
    lines += [f"\n{', '.join(titles)}: {remark}." for remark, titles in titles_by_remark.items()]
    return "\n".join(lines)
