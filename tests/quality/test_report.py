"""The report: what it draws of a release's figures."""

import re

from quantmill.quality import charts
from quantmill.quality import html_report as report

MEASURED = {"perplexity": 11.0, "kld_error": 0.0012, "top1": 0.9, "top1_error": 0.004, "delta_p_rms": 0.02}


def test_a_report_is_drawn_alike_and_escapes_names() -> None:
    kld = dict.fromkeys(("mean", "median", "p90", "p99", "p999", "max"), 0.01)
    lost = {"blk.0.ffn_up.weight": 0.1, "blk.1.ffn_up.weight": 0.2, "token_embd.weight": 0.05}
    one = {"bytes": 4_000_000, "bits": 4.5, "kld": kld, **MEASURED}
    measured = {"Q4_K_M": {**one, "tensors": lost}, "F32": {**one, "bytes": 9_000_000, "tensors": {}}}
    base = {"perplexity": 10.0, "perplexity_error": 0.5, "tokens": 1000}
    pages = [report.render("<b>x</b>", "b5490", base, measured) for _ in range(2)]
    assert pages[0] == pages[1]
    page, chart = pages[0]["report.html"], pages[0]["chart.svg"]
    assert "<b>x" not in page
    assert "&lt;b&gt;x&lt;/b&gt;: measured quality" in page
    assert page.count("<svg") == 3  # two pictures, and the errors of the one file whose tensors changed
    assert chart.count("Q4_K_M") >= 1
    assert "+10.00 %" in page
    assert "0.0100 ± 12.0 %" in page


def test_files_of_the_same_weights_are_one_point_of_the_report() -> None:
    """A model whose widths make `_L` forms equal has them; their names stand together, wherever one would."""
    kld = dict.fromkeys(("mean", "median", "p90", "p99", "p999", "max"), 0.01)
    one = {"bytes": 4_000_000, "bits": 4.5, "kld": kld, **MEASURED, "tensors": {"blk.0.ffn_up.weight": 0.1}}
    other = {**one, "bytes": 6_000_000}
    base = {"perplexity": 10.0, "perplexity_error": 0.5, "tokens": 1000}
    alone = report.render("x", "b5490", base, {"Q4_K_M": one, "Q6_K": other})
    both = report.render("x", "b5490", base, {"Q4_K_L": one, "Q6_K": other, "Q4_K_M": dict(one)})
    assert re.findall(r">([^<]*Q4_K_[^<]*)<", both["chart.svg"]) == ["Q4_K_M, Q4_K_L"]
    assert both["chart.svg"].count("<path") == alone["chart.svg"].count("<path")
    assert both["report.html"].count("<tr") == alone["report.html"].count("<tr")
    assert both["report.html"].count("<summary>Q4_K_M, Q4_K_L</summary>") == 1
    assert "weights are the same are told" in both["report.html"]
    assert "weights are the same" not in alone["report.html"]
    assert both["report.html"].count("<svg") == alone["report.html"].count("<svg")


def test_the_front_is_what_no_smaller_file_beats() -> None:
    files = [
        charts.FileQuality(name, size, 4.0, kld, 10.0, {})
        for name, size, kld in (("A", 10, 0.5), ("B", 20, 0.6), ("C", 30, 0.1), ("D", 30, 0.2), ("E", 40, 0.05))
    ]
    assert [file.ftype for file in charts.front(files)] == ["A", "C", "E"]


def test_a_file_that_loses_nothing_is_not_on_a_logarithmic_axis() -> None:
    files = [
        charts.FileQuality(name, size, 4.0, kld, 10.0, {}) for name, size, kld in (("F32", 40, 0.0), ("Q8_0", 9, 0.1))
    ]
    drawn = charts.size_against_kld(files)
    assert "NaN" not in drawn
    assert ">Q8_0<" in drawn
    assert ">F32<" not in drawn
    assert ">F32<" in charts.size_against_kld(files[:1])


def test_the_order_of_files_of_one_size_is_not_the_recipes() -> None:
    kld = dict.fromkeys(("mean", "median", "p90", "p99", "p999", "max"), 0.01)
    one = {"bytes": 4_000_000, "bits": 4.5, "kld": kld, **MEASURED}
    lost = {"blk.0.ffn_up.weight": 0.1}
    measured = {"Q4_K_M": {**one, "tensors": lost}, "IQ4_NL": {**one, "tensors": lost}}
    base = {"perplexity": 10.0, "perplexity_error": 0.5, "tokens": 1000}
    other = dict(reversed(measured.items()))
    assert report.render("x", "b5490", base, measured) == report.render("x", "b5490", base, other)
