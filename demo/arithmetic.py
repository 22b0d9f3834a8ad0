"""The calculator: arithmetic out of a sentence, worked out safely."""

import ast
import math
import operator
import re
from collections.abc import Callable

MAX_LENGTH = 200
MAX_BITS = 4096

Number = int | float

WORDS = [
    (r"(?<=\d)\s*%\s*of\b", " / 100 *"),
    (r"\bdivided by\b|÷", " / "),
    (r"\bmultiplied by\b|\btimes\b|×|·", " * "),
    (r"\bplus\b", " + "),
    (r"\bminus\b|−", " - "),
    (r"\^", "**"),
]
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": math.sqrt,
    "abs": abs,
    "round": round,
    "min": min,
    "max": max,
}
CONSTANTS = {"pi": math.pi, "e": math.e}
BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
TOKEN = (
    r"(?:\d+(?:\.\d+)?|\bpi\b|\b(?:sqrt|abs|round|min|max)(?=\()|\*\*|//|[-+*/%(),])"
)
DATE = re.compile(r"\b\d{1,4}([-/.])\d{1,2}\1\d{1,4}\b")
# What may stand around a sum without making it something else.
SUM_WORDS = re.compile(
    r"\b(what'?s?|is|how|much|calculate|compute|the|result|of|please|was|ist)\b",
    re.IGNORECASE,
)


class CalculatorError(ValueError):
    """The expression is not arithmetic, or its result is out of reach."""


def find_expression(text: str) -> str | None:
    """The longest arithmetic expression in a sentence, or None.

    Understands words like "times" and "15% of 80"; dates are no subtractions.
    """
    text = DATE.sub(" ", text)
    for pattern, symbol in WORDS:
        text = re.sub(pattern, symbol, text, flags=re.IGNORECASE)
    found: list[str] = []
    for match in re.finditer(rf"{TOKEN}(?:\s*{TOKEN})*", text):
        candidate = _balance(" ".join(match.group().strip(" ,/*%").split()))
        if _is_expression(candidate) and not _is_number_plate(candidate, text):
            found.append(candidate)
    return max(found, key=len, default=None)


def calculate(expression: str) -> str:
    """Work out `expression` and give the result as text.

    Numbers, + - * / // % **, brackets, sqrt, abs, round, min, max, pi and e.
    Raises `CalculatorError`, whose message is one sentence.
    """
    if len(expression) > MAX_LENGTH:
        raise CalculatorError(f"An expression has at most {MAX_LENGTH} characters.")
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise CalculatorError(f"This is not arithmetic: {expression}") from error
    try:
        return _show(_value(tree.body))
    except ZeroDivisionError as error:
        raise CalculatorError("Nothing can be divided by zero.") from error
    except (OverflowError, ValueError, TypeError) as error:
        if isinstance(error, CalculatorError):
            raise
        raise CalculatorError("This has no result I can show.") from error


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _limited(number)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return _limited(BINARY[type(op)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if (
            name in FUNCTIONS
        ):
            return _limited(FUNCTIONS[name](*[_value(arg) for arg in args]))
        case _:
            raise CalculatorError("Only plain arithmetic is understood here.")


def _power(base: Number, exponent: Number) -> Number:
    # Checked before it is worked out: 9**9**9 would never come back.
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and int(base).bit_length() * exponent > MAX_BITS:
        raise CalculatorError("The result is too large.")
    result = base**exponent
    if isinstance(result, complex):
        raise CalculatorError("The result is not a real number.")
    return _limited(result)


def _limited(number: Number) -> Number:
    if isinstance(number, int) and number.bit_length() > MAX_BITS:
        raise CalculatorError("The result is too large.")
    if isinstance(number, float) and not math.isfinite(number):
        raise CalculatorError("The result is too large.")
    return number


def _show(number: Number) -> str:
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        number = int(number)
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _balance(candidate: str) -> str:
    """Drop brackets of the sentence around an expression, as in "(it is 2+2)"."""
    while candidate.count(")") > candidate.count("(") and candidate.endswith(")"):
        candidate = candidate[:-1].rstrip()
    while candidate.count("(") > candidate.count(")") and candidate.startswith("("):
        candidate = candidate[1:].lstrip()
    return candidate


def _is_expression(candidate: str) -> bool:
    try:
        tree = ast.parse(candidate, mode="eval")
    except SyntaxError:
        return False
    return isinstance(tree.body, ast.BinOp | ast.Call)


def _is_number_plate(candidate: str, text: str) -> bool:
    """Whether "555-1234" stands in a sentence which asks for no sum."""
    if not re.fullmatch(r"[\d.]+[-/][\d.]+", candidate):
        return False
    rest = text.replace(candidate, " ")
    return bool(re.search(r"\w", SUM_WORDS.sub(" ", rest)))
