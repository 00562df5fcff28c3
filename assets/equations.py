"""Equations as a person can read them in the UI, which shows Markdown but sets no LaTeX.

Here belongs turning the LaTeX of the catalogue into one line of plain text: fractions become quotients with the
brackets that they need, commands become the signs that they stand for. What is not known is shown by its name, so
nothing is lost.
"""

import re

SIGNS = {
    "sum": "Σ",
    "prod": "Π",
    "ln": "ln ",
    "log": "log",
    "exp": "exp",
    "max": "max",
    "min": "min",
    "le": " ≤ ",
    "leq": " ≤ ",
    "ge": " ≥ ",
    "geq": " ≥ ",
    "ne": " ≠ ",
    "neq": " ≠ ",
    "in": " ∈ ",
    "mid": " | ",
    "cdot": " · ",
    "times": " × ",
    "approx": " ≈ ",
    "sim": " ~ ",
    "to": " → ",
    "rightarrow": "→",
    "leftarrow": "←",
    "lVert": "‖",
    "rVert": "‖",
    "Vert": "‖",
    "lvert": "|",
    "rvert": "|",
    "langle": "⟨",
    "rangle": "⟩",
    "lfloor": "⌊",
    "rfloor": "⌋",
    "cup": " ∪ ",
    "cap": " ∩ ",
    "setminus": " ∖ ",
    "subset": " ⊂ ",
    "subseteq": " ⊆ ",
    "nabla": "∇",
    "partial": "∂",
    "infty": "∞",
    "top": "ᵀ",
    "ldots": "…",
    "dots": "…",
    "cdots": "…",
    "quad": "  ",
    "qquad": "   ",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Sigma": "Σ",
    "Phi": "Φ",
    "Psi": "Ψ",
    "Omega": "Ω",
    "ell": "ℓ",
    "left": "",
    "right": "",
    "big": "",
    "Big": "",
    "bigl": "",
    "bigr": "",
    "displaystyle": "",
}
FONTS = frozenset({"mathrm", "mathbf", "mathcal", "mathbb", "text", "textrm", "operatorname", "bar", "hat", "tilde"})
"""Commands of one argument whose argument is shown as it is."""
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}_^]|[^\\{}_^]", re.DOTALL)


def readable(latex: str) -> str:
    r"""One line of plain text: ``\frac{1}{n} \sum_i x_i`` becomes ``1/n Σ_i x_i``. Plain text stays as it is."""
    if "\\" not in latex:
        return latex
    text, _ = _run(_TOKEN.findall(latex), 0)
    return re.sub(r"(?<=[(\[]) | (?=[)\],])", "", re.sub(r"\s+", " ", text)).strip()


def _run(tokens: list[str], at: int) -> tuple[str, int]:
    """The text up to the end of the group, and where the group's end stands."""
    parts: list[str] = []
    while at < len(tokens) and tokens[at] != "}":
        text, at = _item(tokens, at)
        parts.append(text)
    return "".join(parts), at


def _item(tokens: list[str], at: int) -> tuple[str, int]:
    token = tokens[at]
    if token == "{":
        text, at = _run(tokens, at + 1)
        return text, at + 1
    if token in "_^":
        text, at = _argument(tokens, at + 1)
        return token + _bracketed(text, r"[\w→←*′ᵀ]+|[+.-]"), at
    if not token.startswith("\\"):
        return token, at + 1
    name = token[1:]
    if name in ("frac", "tfrac", "dfrac"):
        over, at = _argument(tokens, at + 1)
        under, at = _argument(tokens, at)
        return f"{_bracketed(over, _ONE)}/{_bracketed(under, _ONE)}", at
    if name == "binom":
        over, at = _argument(tokens, at + 1)
        under, at = _argument(tokens, at)
        return f"C({over}, {under})", at
    if name == "sqrt":
        text, at = _argument(tokens, at + 1)
        return "√" + _bracketed(text, r"\w+"), at
    if name in FONTS:
        return _argument(tokens, at + 1)
    if not name.isalpha():
        return ({",": " ", ";": " ", "!": "", "|": "‖", "\\": " ", " ": " "}.get(name, name)), at + 1
    return SIGNS.get(name, name), at + 1


_ONE = r"[\w#→←μσλ]+(_\(?[\w→←]+\)?)?(\([^()]*\))?|√\w+|\([^()]*\)"
"""What needs no bracket above or below a fraction's line: a name with its index, a function's value, a root."""


def _argument(tokens: list[str], at: int) -> tuple[str, int]:
    while at < len(tokens) and tokens[at].isspace():
        at += 1
    return _item(tokens, at) if at < len(tokens) else ("", at)


def _bracketed(text: str, simple: str) -> str:
    text = text.strip()
    return text if re.fullmatch(simple, text) else f"({text})"
