"""Ratios to read, and the files."""

import math
import os
import pathlib
import tempfile
from xml.sax.saxutils import escape

from .plan import OURS, PASSES, PEERS, label


def by_place(rows):
    """The rows of each workload and pass, by who ran it."""
    places = {}
    for row in rows:
        places.setdefault((label(row), row["pass"]), {})[row["by"]] = row
    return places


def ratios(rows):
    """A table: how fast ours is, and how many times as long each peer takes (above 1: ours is faster)."""
    places = by_place(rows)
    peers = [peer for peer in PEERS if any(peer in place for place in places.values())]
    table = [["batch x heads x seq", "pass", "ours by", "TFLOP/s", *[f"{peer} / ours" for peer in peers]]]
    logs = {peer: {name: [] for name in PASSES} for peer in peers}
    for (what, name), place in places.items():
        ours = place[OURS]
        cells = [what, name, ours["backend"], f"{ours['tflops']:.1f}"]
        for peer in peers:
            ratio = place[peer]["seconds"]["median"] / ours["seconds"]["median"] if peer in place else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
            if ratio is not None:
                logs[peer][name].append(math.log(ratio))
        table.append(cells)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    for name in PASSES:
        means = {peer: sum(logs[peer][name]) / len(logs[peer][name]) for peer in peers if logs[peer][name]}
        if means:
            words = ", ".join(f"{peer} {math.exp(mean):.2f}" for peer, mean in means.items())
            lines.append(f"geometric mean of peer / ours, {name}: {words}")
    return "\n".join(lines)


def picture(heading, rows):
    """TFLOP/s as groups of bars, a panel for each pass, head dim and mask, as SVG."""
    colours = {OURS: "#d62728", "cudnn": "#1f77b4", "flash": "#2ca02c", "efficient": "#9467bd", "math": "#7f7f7f",
               "triton": "#ff7f0e"}
    panels = {}
    for row in rows:
        key = f"{row['pass']}, d {row['dim']}{', causal' if row['causal'] else ''}"
        panels.setdefault(key, {}).setdefault(row["seq"], {})[row["by"]] = row["tflops"]
    width, height, top = 620, 260, 60
    parts = [f'<text x="10" y="22" font-size="15">{escape(heading)}</text>']
    for i, (name, colour) in enumerate(colours.items()):
        parts.append(f'<rect x="{10 + 100 * i}" y="34" width="12" height="12" fill="{colour}"/>'
                     f'<text x="{27 + 100 * i}" y="45">{escape(name)}</text>')
    for n, (title, groups) in enumerate(panels.items()):
        left, base = 50 + width * (n % 2), top + height * (n // 2) + height - 40
        tallest = max(value for group in groups.values() for value in group.values())
        room, span = height - 80, (width - 70) / len(groups)
        parts.append(f'<text x="{left}" y="{base - room - 8}">{escape(title)}, TFLOP/s (line: {tallest:.0f})</text>')
        parts.append(f'<path d="M{left} {base}H{left + width - 70}M{left} {base - room}H{left + width - 70}" stroke="#ccc"/>')
        for g, (seq, group) in enumerate(sorted(groups.items())):
            bar = min(span * 0.85 / len(group), 40)
            for b, name in enumerate(colour for colour in colours if colour in group):
                tall = room * group[name] / tallest
                parts.append(f'<rect x="{left + g * span + b * bar:.1f}" y="{base - tall:.1f}" width="{bar * 0.92:.1f}" '
                             f'height="{tall:.1f}" fill="{colours[name]}"/>')
            parts.append(f'<text x="{left + g * span:.1f}" y="{base + 16}">{seq}</text>')
    total = top + height * math.ceil(len(panels) / 2)
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width + 20}" height="{total}" font-family="sans-serif" '
            f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')


def write_whole(path, text):
    """Writes a file that appears whole or not at all."""
    path = pathlib.Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".compare-", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
