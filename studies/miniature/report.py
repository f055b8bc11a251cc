"""The report of a study: DIR/report.md and its figures."""

import math
import os
from collections.abc import Mapping
from types import ModuleType

import torch

import langbridge
from studies.miniature.answers import Claim, holm, said_p
from studies.miniature.page import Page
from studies.miniature.runs import Study
from studies.miniature.sizes import Sizes


def write_report(study: Study, parts: Mapping[str, ModuleType]) -> list[tuple[str, Claim]]:
    """Write the report of parts whose runs are all finished; their claims, each with the letter of its part."""
    body = Page(study.out)
    claims: list[tuple[str, Claim]] = []
    for letter, part in parts.items():
        body.heading(f"{letter}. {part.TITLE}")
        own = holm(part.write(study, body))
        if own:
            body.heading("What held", 3)
            body.points([claim.said() for claim in own])
        runs = part.runs(study)
        spent = sum(study.core_seconds(run) for run in runs)
        body.say(
            f"{len(runs)} runs, {spent / 60:.0f} minutes of one core, without what was prepared before them and what "
            "interruptions cost; runs may be shared between parts."
        )
        claims += [(letter, claim) for claim in own]
    page = Page(study.out)
    _open(page, study.sizes, claims)
    page.blocks += body.blocks
    page.write()
    return claims


def _open(page: Page, sizes: Sizes, claims: list[tuple[str, Claim]]) -> None:
    page.heading("The paper's claims in miniature", 1)
    page.say(
        "LangBridge (Yoon et al., ACL 2024, arXiv 2401.10695) on the miniature: word problems of one small world in 12 "
        "languages, a language model of 1.4 million parameters that learned English and a little Spanish, German and "
        "French, and an encoder of 1.6 million that saw parallel text. What holds here need not hold for a model a "
        "thousand times larger, and what does not hold here may hold there."
    )
    page.say(
        f"{len(sizes.seeds)} seeds of the connector (its start, the order of the examples); the parents and the "
        f"examples are the same in all runs. {sizes.problems} held-out problems in each language, answered greedily. "
        "Numbers are ± one standard error, over problems (a problem in all languages is one) and seeds together; "
        "intervals are Student's, and wide with so few seeds; an error of 0.0 says only that all answers were alike. "
        "Parts b and f have seeds, problems and errors of their own, which they state. Each part but f has one primary "
        "claim, named before its runs were made and judged by itself; the others are judged together, by Holm's p "
        "within their part."
    )
    page.table(
        ["part", "claim", "in miniature", "found", "p"],
        [
            [letter, f"**{claim.text}** (primary)" if claim.primary else claim.text, f"**{claim.verdict}**",
             claim.found.points, "" if math.isnan(claim.p) else said_p(claim.p)]
            for letter, claim in claims
        ],
        texts=(1, 2, 3),
    )  # fmt: skip
    page.say(
        "A claim *holds* where what decides it is above zero with a p below .05, does *not hold* where it is below "
        "zero with such a p, and is else *not shown*: then these runs cannot tell. *Not compared* is what there is "
        "nothing to compare for.",
        f"langbridge {langbridge.__version__}, torch {torch.__version__}, {os.cpu_count()} cores.",
    )
