"""A tag that a listed key admitted at the shared store counts for all of its readers; any other list does not."""

from contextlib import suppress
from pathlib import Path

import pytest

from quantmill.errors import UsageError
from quantmill.recipe import team_tags
from quantmill.reference.spans import of_tag
from quantmill.store.remote.admitted import PAYLOAD_TYPE, share, sign
from quantmill.store.remote.bucket import Bucket
from quantmill.store.remote.settings import PublicKey, Settings, format_public
from quantmill.store.remote.trust import Signer, new_key

ROW = {"tag": "b12000", "span": 11227, "questions": "0" * 16, "oracle": "0" * 64, "date": "2026-11-30"} | {
    "files": 1,
    "refused": 0,
}


class Team:
    """A shared store in a folder, two keys, and clones that list some of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir()
        self.public = {name: new_key(folder / f"{name}.key") for name in ("builder", "stranger")}

    def clone(self, name: str, keys: str, sign: str | None = None, expires: str = "") -> Path:
        project = self.folder / name
        project.mkdir(exist_ok=True)
        lines = ["[store]", f'url = "file://{self.store}"', *([f'sign = "../{sign}.key"'] if sign else [])]
        for key in keys.split():
            lines += ["[[store.key]]", f'name = "{key}"', f'public = "{format_public(self.public[key])}"', expires]
        (project / "quantmill.toml").write_text("\n".join(lines))
        return project

    def signer(self, name: str) -> tuple[Settings, Signer]:
        settings = Settings(f"file://{self.store}", (PublicKey(name, self.public[name]),))
        return settings, Signer(str(self.folder / f"{name}.key"), settings.keys)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    for name in ("QUANTMILL_STORE", "QUANTMILL_SIGN", "QUANTMILL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return Team(tmp_path)


def known(project: Path, tag: str = "b12000") -> bool:
    team_tags._shared.cache_clear()  # as a process of its own
    found = None
    with suppress(UsageError):
        found = team_tags.reference_of(tag, project)
    return found is of_tag("b11739")


def test_it_counts_for_those_who_list_the_key(team: Team) -> None:
    builder = team.clone("builder", "builder", sign="builder")
    reader, other, none = (
        team.clone("reader", "stranger builder"),
        team.clone("other", "stranger"),
        team.folder / "none",
    )
    none.mkdir()
    assert not known(reader)
    assert share(builder, ROW) == f"file://{team.store}"
    share(builder, ROW | {"tag": "v0.6.0"})
    assert [known(project) for project in (builder, reader, other, none)] == [True, True, False, False]
    assert known(reader, "b11800")
    assert known(reader, "v0.6.0")
    assert not known(reader, "b12001")
    assert not known(team.clone("late", "builder", expires="expires = 2020-01-01"))


def test_what_is_not_signed_or_signed_by_another_does_not(team: Team) -> None:
    share(team.clone("builder", "builder", sign="builder"), ROW)
    (own,) = (team.store / "admitted").iterdir()
    whole, reader = own.read_bytes(), team.clone("reader", "builder")
    settings, stranger = team.signer("stranger")
    sign(Bucket(settings), settings, stranger, [ROW])
    foreign = (team.store / "admitted" / stranger.id).read_bytes()
    _, builder = team.signer("builder")
    others = [builder.sign(b"[]", PAYLOAD_TYPE), builder.sign(b'{"admissions": [{}], "time": 1}', PAYLOAD_TYPE)]
    others += [builder.sign(b'{"admissions": [], "time": 1}', "application/json"), b"{}", b"", whole[:-9], foreign]
    for data in others:
        own.write_bytes(data)
        assert not known(reader), data
    own.write_bytes(whole)
    assert known(reader)


def test_a_reader_has_no_key_to_share_by(team: Team) -> None:
    with pytest.raises(UsageError, match="this needs a signing key"):
        share(team.clone("reader", "builder"), ROW)
    with pytest.raises(UsageError, match="no shared store is named"):
        share(team.folder / "nobody", ROW)


def test_it_counts_where_the_store_is_away(team: Team) -> None:
    share(team.clone("builder", "builder", sign="builder"), ROW)
    reader, late = team.clone("reader", "builder"), team.clone("late", "builder")
    (reader / "cache").mkdir()
    assert known(reader)
    team.store.rename(team.folder / "away")
    assert known(reader)
    with pytest.raises(UsageError, match=r"b12000 is admitted by nobody here, and others cannot be asked: file://.*: "):
        team_tags.reference_of("b12000", late)
    assert known(late, "b11500")  # nobody need be asked


def test_keys_roll_over(team: Team) -> None:
    share(team.clone("builder", "builder", sign="builder"), ROW)
    settings, stranger = team.signer("stranger")
    both = Settings(settings.url, (*settings.keys, PublicKey("builder", team.public["builder"])))
    sign(Bucket(both), both, stranger, all_keys=True)
    assert known(team.clone("reader", "stranger"))
