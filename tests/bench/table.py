"""The lines of the table: what each says, as text for a terminal and as Markdown."""

import dataclasses

COLUMNS = ("untraced", "ours", "heaptrack", "jemalloc", "gperftools")


@dataclasses.dataclass
class Line:
    """One line. `cells` has a text for some of COLUMNS; `figure` is what the goal speaks of.

    `met` is True, False, or None when there is no goal or no figure; `why` says the latter. `notes` go below the table.
    `samples` are the raw values, {variant: {figure: [value of each round]}}, for --json.
    """
    name: str
    workload: str
    unit: str
    cells: dict
    figure: float = None
    figure_text: str = ""
    goal: str = ""
    limit_text: str = ""
    met: bool = None
    why: str = ""
    notes: list = dataclasses.field(default_factory=list)
    samples: dict = dataclasses.field(default_factory=dict)

    def result(self):
        if self.met is not None:
            return "met" if self.met else f"missed: {self.figure_text} against {self.limit_text}"
        if self.why:
            return self.why
        return "" if not self.goal else "no figure"


def compared(line, figure, limit, above=False, digits=2):
    """Sets the line's figure, and whether it is at most `limit` (at least, with `above`). None leaves it without one."""
    line.goal, line.limit_text = f"{'>=' if above else '<='} {limit:.{digits}f}", f"{limit:.{digits}f}"
    if figure is None:
        return line
    line.figure, line.figure_text = figure, f"{figure:.{digits}f}"
    line.met = figure >= limit if above else figure <= limit
    return line


def number(value, digits=0):
    """A figure as text; a dash for what was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}"


def _rows(lines):
    yield ("", "workload", "unit", *COLUMNS, "figure", "goal", "")
    for line in lines:
        yield (line.name, line.workload, line.unit, *(line.cells.get(column, "") for column in COLUMNS),
               line.figure_text, line.goal, line.result())


def notes(lines):
    """All lines' notes, each once, with the line that it belongs to."""
    seen = []
    for line in lines:
        for note in line.notes:
            if (line.name, note) not in seen:
                seen.append((line.name, note))
    return [f"{name}: {note}" for name, note in seen]


def as_text(lines):
    rows = list(_rows(lines))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 2, len(widths) - 1)
    text = []
    for row in rows:
        cells = [cell.ljust(width) if i in left else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text + [""] + notes(lines))


def as_markdown(lines):
    rows = [[cell.replace("|", "\\|") for cell in row] for row in _rows(lines)]
    text = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * 3 + "---:|" * (len(rows[0]) - 4) + "---|"]
    text += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(text + [""] + [f"- {note}" for note in notes(lines)])
