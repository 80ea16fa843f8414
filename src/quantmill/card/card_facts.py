"""What a page is made of: everything that is known before it is written, and nothing that depends on a day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantmill.card.prompt import Prompt, prompt_of
from quantmill.choose.shape import Shape
from quantmill.released import Bench, ReleasedFile, by_size, with_twins

# On page "License" etc.: the keys of the front matter, in its order.
FRONT = ("license", "license_name", "license_link", "language", "datasets", "tags")


@dataclass(frozen=True)
class CardFacts:
    """A page's facts.

    `base`: the base's Hub repository or its name
    `on_hub`: which of the two `base` is
    `repo`: where the release is published, None for a folder
    `front`: the values of FRONT that are known
    `calibration`: names and addresses of texts; an address may be empty
    `shape`: None where the architecture is not known
    `limit`: the bytes above which files are split
    `chart`: the name of a picture of the release
    `unknown`: llama.cpp of the tag does not know the architecture
    `notes`: what is not as a reader expects it, by its word in the catalogues
    `name`: what the model is called, where that is not the last part of `base`
    `base_model`: the Hub repositories that the front matter names, where they are not `base`
    `parents`: those that a base which names no repository of its own was made of
    `recipe`: the recipe's name, empty where the page does not tell how it was made
    `thumbnail`, `support`, `extra`, `private`: the recipe's [card]
    `searched`: of files whose types were searched, `files`, their names, with the texts that they were searched (`on`)
    and `measured` on
    `projectors`: for images or sound, largest first; of 0 bytes where they are not made yet
    """

    base: str
    on_hub: bool
    prefix: str
    llama_cpp: str
    repo: str | None
    quantized_by: str | None
    pipeline_tag: str
    front: Mapping[str, Any]
    calibration: tuple[tuple[str, str], ...]
    imatrix: bool
    tied: bool
    shape: Shape | None
    limit: int
    credits: tuple[str, ...]
    prompt: Prompt | None
    files: tuple[ReleasedFile, ...]
    bench: Bench | None
    chart: str | None
    unknown: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    base_model: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    recipe: str = ""
    thumbnail: str = ""
    support: str = ""
    extra: str = ""
    private: bool = False
    projectors: tuple[ReleasedFile, ...] = ()
    searched: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model's name without its owner's."""
        return self.name or self.base.rpartition("/")[2]


def facts(
    params: Mapping[str, Any],
    files: Sequence[ReleasedFile],
    bench: Bench | None = None,
    chart: str | None = None,
    left_out: int = 0,
    projectors: Sequence[ReleasedFile] = (),
) -> CardFacts:
    """The facts from the card step's params (page.params makes them) and what was built or planned. `left_out`: tensors
    that the imatrix has no entry of, for unreached experts."""
    front = params["front"]
    return CardFacts(
        base=params["base"],
        on_hub=params["on_hub"],
        prefix=params["prefix"],
        llama_cpp=params["llama_cpp"],
        repo=params["repo"],
        quantized_by=params["quantized_by"],
        pipeline_tag=params["pipeline_tag"],
        front={key: front[key] for key in FRONT if front.get(key)},
        calibration=tuple((name, address) for name, address in params["calibration"]),
        imatrix=params["imatrix"],
        tied=params["tied"],
        shape=Shape(**params["shape"]) if params["shape"] else None,
        limit=params["max_size"],
        credits=tuple(params["credits"]),
        prompt=prompt_of(params["chat"]),
        files=tuple(with_twins(by_size(files))),
        bench=bench,
        chart=chart,
        unknown=params.get("unknown_architecture", False),
        notes=({"left_out": left_out} if left_out else {}) | dict(params.get("notes", {})),
        base_model=tuple(params.get("base_model", ())),
        parents=tuple(params.get("parents", ())),
        **{key: params.get(key, "") for key in ("name", "recipe", "thumbnail", "support", "extra")},
        private=params.get("private", False),
        projectors=tuple(by_size(projectors)),
        searched=params.get("searched", {}),
    )
