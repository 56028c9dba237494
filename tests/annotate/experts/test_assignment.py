import json
import urllib.parse
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.exchange.project import Project
from annotate.experts.accounts import Expert, add_experts, experts, name_of
from annotate.experts.assignment import assign, assigned, blind_projects, read_assignment, share, share_blind
from annotate.server.local import LocalServer
from annotate.studio import Studio, connect
from pipelines.cli import run
from pride_mm.errors import UserError
from pride_mm.records import Item
from pride_mm.schema import Schema, Turn

NAMES = ("ana", "ben", "cy", "dee")


@given(st.lists(st.text("abc123", min_size=1, max_size=4), unique=True), st.integers(1, 4), st.integers())
@settings(max_examples=60, deadline=None)
def test_items_are_dealt_out_evenly_and_stay_when_items_are_added(items: list[str], overlap: int, seed: int) -> None:
    first = assign(items[: len(items) // 2], NAMES, overlap, seed)
    dealt = assign(items, NAMES, overlap, seed, first)
    assert {item: dealt[item] for item in first} == first
    assert all(len(set(names)) == len(names) == overlap for names in dealt.values())
    load = Counter(name for names in dealt.values() for name in names)
    assert max((load[n] for n in NAMES), default=0) - min((load[n] for n in NAMES), default=0) <= 1
    assert dealt == assign(items, NAMES, overlap, seed, first)


def test_a_late_expert_gets_the_new_items_and_more_overlap_adds_to_the_old_ones() -> None:
    old = assign([f"i{n}" for n in range(10)], NAMES[:2], 1)
    new = assign([f"i{n}" for n in range(14)], NAMES[:3], 1, before=old)
    assert {item: names for item, names in new.items() if item in old} == old
    assert all(new[f"i{n}"] == ("cy",) for n in range(10, 14))
    more = assign(list(new), NAMES[:3], 2, before=new)
    assert all(set(new[item]) < set(more[item]) and len(more[item]) == 2 for item in new)
    with pytest.raises(UserError, match="there are 2 experts, so 1 to 2 are possible"):
        assign(["i"], NAMES[:2], 3)
    assert assign(["a", "b"], NAMES, 2, 1) != assign(["a", "b"], NAMES, 2, 2)


def test_a_list_is_read_and_what_it_names_wrongly_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("\ufeffitem, expert, remark\na,ana,x\na, ben\nb,ben\nb,ben\n")
    assert read_assignment(path, ["a", "b"], NAMES) == {"a": ("ana", "ben"), "b": ("ben",)}
    path.write_text("item,expert\na,zoe\nq,ana\na\n")
    with pytest.raises(UserError, match=r"line 2: no expert 'zoe'\n.*line 3: no item 'q'\n.*line 4: no expert ''"):
        read_assignment(path, ["a"], NAMES)
    path.write_text("a,ana\n")
    with pytest.raises(UserError, match="no columns 'item' and 'expert'"):
        read_assignment(path, ["a"], NAMES)


def test_names_fit_into_titles() -> None:
    assert name_of("Ana.Maria+test@uni.example") == "ana-maria-test"
    assert len(name_of("x" * 60 + "@uni.example")) == 15
    assert name_of("ü@uni.example") == "expert"


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    studio = Studio("http://127.0.0.1:1", None)
    for wrong in ("Ana Maria", "a" * 16, "", "-a", "a@b@c", "x@model.pride.invalid", "ana,ben"):
        with pytest.raises(UserError, match="neither a name"):
            add_experts(studio, [wrong], tmp_path)


@pytest.fixture(scope="module")
def people(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> list[Expert]:
    """Two experts with passwords, made once."""
    folder = tmp_path_factory.mktemp("experts")
    made, there = add_experts(studio, ["ana", "ben@uni.example"], folder)
    assert (len(made), len(there)) in ((2, 0), (0, 2))
    return experts(studio, ["ana", "ben"])


@pytest.fixture
def words() -> list[Item]:
    talk = (Turn(speaker="a", text="b"),)
    return [
        Item(id=f"i-{n}", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"talk": talk}})
        for n in range(6)
    ]


def offered(server: LocalServer, token: str, link: str) -> str | None:
    """The item of the task that somebody is offered who opens a link; what its page asks the server."""
    parts = urllib.parse.urlsplit(link)
    project, tab = int(parts.path.split("/")[2]), int(dict(urllib.parse.parse_qsl(parts.query))["tab"])
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Token {token}"}, trust_env=False) as client:
        shown = client.get(f"/api/dm/views/{tab}/", timeout=60).json()["data"]["filters"]
        given = {"id": "next_task", "project": project, "tabID": tab}
        answer = client.post("/api/dm/actions", params=given, json={"filters": shown}, timeout=60)
        return answer.json()["data"]["Item"] if answer.status_code == 200 else None


def token_of(server: LocalServer, email: str, folder: Path) -> str:
    """Sign in as a person does, with the password in the file, and ask for one's token."""
    password = (folder / f"{name_of(email)}.txt").read_text().split()[-1]
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        client.get("/user/login/")
        form = {"email": email, "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/user/login/", data=form).status_code == 302
        return str(client.get("/api/current-user/token").json()["token"])


@pytest.mark.label_studio
def test_experts_sign_in_with_a_password_that_only_the_owner_can_read(
    studio: Studio, server: LocalServer, tmp_path: Path
) -> None:
    name = f"e{uuid.uuid4().hex[:6]}"
    (made,), there = add_experts(studio, [name], tmp_path)
    assert (made.name, made.email, there) == (name, f"{name}@experts.invalid", [])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    connect(server.url, token_of(server, made.email, tmp_path))
    assert path.read_text().split()[-1] not in server.log.read_text()
    made_again, there = add_experts(studio, [name], tmp_path / "none")
    assert (made_again, there) == ([], [made])
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="would have one name"):
        add_experts(studio, [f"{name}@uni.example"], tmp_path)
    with pytest.raises(UserError, match="No expert nobody at"):
        experts(studio, ["nobody"])


@pytest.mark.label_studio
def test_in_the_shared_project_each_expert_has_a_tab_with_their_tasks(
    studio: Studio, server: LocalServer, people: list[Expert], every_kind: Schema, words: list[Item], tmp_path: Path
) -> None:
    (late,), _ = add_experts(studio, [f"t{uuid.uuid4().hex[:6]}"], tmp_path)
    everyone = [*people, late]
    project = Project(studio, every_kind, f"T {uuid.uuid4().hex[:8]}")
    project.push(words)
    wanted = {"i-0": ("ana", late.name), "i-1": ("ana",), "i-2": ("ben", late.name)}
    done = share(project, {**wanted, "gone": ("ana",)}, everyone)
    assert (done.added, done.before, done.missing) == (5, 0, ("gone",))
    assert {item: names for item, names in assigned(project).items() if names} == {
        item: tuple(sorted(names)) for item, names in wanted.items()
    }
    assert share(project, wanted, everyone).before == 5
    (number,) = project.numbers
    assert studio.client.projects.get(id=number).maximum_annotations == 2
    assert done.links == share(project, {}, everyone).links
    (link,) = done.links[late.name]
    token = token_of(server, late.email, tmp_path)
    seen = []
    while (item := offered(server, token, link)) is not None:
        seen.append(item)
        (task,) = [task for task in project.tasks() if task.item == item]
        connect(server.url, token).client.annotations.create(id=task.number, result=[])
    assert sorted(seen) == ["i-0", "i-2"], "the stream of the tab offers their tasks and no others"


@pytest.mark.label_studio
def test_blind_experts_have_projects_of_their_own_and_are_assigned_once(
    studio: Studio, server: LocalServer, people: list[Expert], every_kind: Schema, words: list[Item]
) -> None:
    title = f"T {uuid.uuid4().hex[:8]}"
    dealt = assign([item.id for item in words], ["ana", "ben"], 1, seed=3)
    first = share_blind(studio, every_kind, title, dealt, words)
    assert (first.added, first.before) == (6, 0)
    again = share_blind(studio, every_kind, title, dealt, words)
    assert (again.added, again.before) == (0, 6)
    own = blind_projects(studio, every_kind, title)
    assert list(own) == ["ana", "ben"]
    assert {studio.client.projects.get(id=p.numbers[0]).maximum_annotations for p in own.values()} == {1}
    for name, project in own.items():
        assert sorted(task.item for task in project.tasks()) == sorted(i for i, n in dealt.items() if n == (name,))
    assert blind_projects(studio, every_kind, title[:-1]) == {}
    for name, project in own.items():
        for task in project.tasks():
            studio.client.annotations.create(id=task.number, result=said(name))
    together = Project(studio, every_kind, title, blind=True).pull(b"k" * 32).annotations
    assert {a.item: a.values["note"] for a in together} == {item: names[0] for item, names in dealt.items()}
    assert Project(studio, every_kind, title).numbers == []


def said(text: str) -> list[dict[str, object]]:
    return [{"id": "x", "from_name": "note", "to_name": "talk", "type": "textarea", "value": {"text": [text]}}]


@pytest.mark.label_studio
def test_the_commands_of_who_annotates_what(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tag = uuid.uuid4().hex[:6]
    names, title = [f"x{tag}", f"y{tag}"], f"T {tag}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    where = ["--data-dir", str(server.data_dir)]
    turns = {"dialogue": [{"speaker": "a", "text": "b"}]}
    lines = [{"id": f"i-{n}", "corpus": "t", "group": "g", "inputs": turns} for n in range(4)]
    Path("items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(["label", "experts", "add", *names, *where]) == 0
    password = (server.data_dir / "experts" / f"{names[0]}.txt").read_text().split()[-1]
    given = [*where, "--project", title, "--by", ",".join(names)]
    assert run(["label", "experts", "assign", "items.jsonl", *given]) == 1
    assert "4 items have no task yet (i-0, i-1, i-2, i-3): push them" in capsys.readouterr().err
    assert run(["label", "push", "items.jsonl", *given[:-2]]) == 0
    assert run(["label", "experts", "assign", "items.jsonl", "--overlap", "1", *given]) == 0
    said = capsys.readouterr().out
    assert "4 assignments added, 0 were there" in said
    assert said.count(" 2 of these 4 items") == 2
    assert "&labeling=1" in said
    assert password not in said
    assert run(["label", "experts", "assign", "items.jsonl", "--blind", *given]) == 0
    assert "8 assignments added" in capsys.readouterr().out
    assert run(["label", "experts", "assign", "items.jsonl", "--overlap", "3", *given]) == 2
    Path("list.csv").write_text("item,expert\ni-0,nobody\n")
    assert run(["label", "experts", "assign", "items.jsonl", "--list", "list.csv", *given]) == 2
    assert "line 2: no expert 'nobody'" in capsys.readouterr().err
    assert run(["label", "status", *given[:-2], "--report", "status.html"]) == 0
    said = capsys.readouterr().out
    assert f"{title}: 4 items, 0 annotated by experts" in said
    assert max(map(len, said.splitlines())) <= 80
    assert Path("status.html").exists()
