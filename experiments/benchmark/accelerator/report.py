"""The short table at the end."""

from typing import Any

__all__ = ["table"]


def table(results: dict[str, Any]) -> str:
    """Return all results as text, what is wrong last."""
    machine = results["machine"]
    versions = machine.get("versions", {})
    lines = [
        "",
        f"{machine.get('kind')} ({machine.get('driver')}), JAX {versions.get('jax')}, PyTorch {versions.get('torch')}",
        "ceilings: " + ", ".join(f"{name} {value['median']:.4g}" for name, value in results["ceilings"].items()),
        _products(results["products"]),
        _answers(results["answers"]),
        f"{'case: way':58} {'ms':>8} {'range':>17} {'predicted':>9} {'per second':>10} {'x first':>7} {'off':>6}",
    ]
    first: dict[str, float] = {}
    for row in results["timings"]:
        first.setdefault(row["case"], row["ms"])
        predicted = "-" if row["predicted_ms"] is None else f"{row['predicted_ms']:.4g}"
        name, low_high = f"{row['case']}: {row['way']}", f"{row['lowest_ms']:.4g}-{row['highest_ms']:.4g}"
        lines.append(
            f"{name:58.58} {row['ms']:8.4g} {low_high:>17} {predicted:>9} {row['per_second']:10.3g} "
            f"{first[row['case']] / row['ms']:7.2f} {row['error']:6.0e}"
        )
    if results["repeats"]:
        same = [row["case"] for row in results["repeats"] if row["same_bits"]]
        other = [row["case"] for row in results["repeats"] if row["same_bits"] is False]
        lines.append(f"bits of two processes: repeat in {len(same)}, differ in {len(other)} {other or ''}")
    for section in ("failed", "skipped", "wrong"):
        lines += [f"{section}: {row['what']}: {(row.get('why') or row['error'])[:150]}" for row in results[section]]
    lines.append(f"{results['seconds']:.0f} s; " + ("WRONG ANSWERS" if results["wrong"] else "no answer was wrong"))
    return "\n".join(lines)


def _products(rows: list[dict[str, Any]]) -> str:
    worst: dict[str, float] = {}
    for row in rows:
        worst[row["precision"]] = max(worst.get(row["precision"], 0.0), row["error"])
    return "largest errors of products: " + ", ".join(f"{name} {error:.1e}" for name, error in worst.items())


def _answers(rows: list[dict[str, Any]]) -> str:
    errors = [row["error"] for row in rows if "error" in row]
    same = [row["same_bits"] for row in rows if "same_bits" in row]
    largest = f"{max(errors):.1e}" if errors else "none"
    return (
        f"answers: {len(errors)} against float64, largest error {largest}; {sum(same)} of {len(same)} with equal bits"
    )
