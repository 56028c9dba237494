"""Which task next, told by a real server to a real user."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from annotate.drafts.order import ORDER, Evidence, changed, disagreement, doubt, links, put_in_order
from annotate.exchange.project import Project
from annotate.experts.accounts import add_experts
from annotate.page.label_config import Page
from annotate.page.provenance import Prediction
from annotate.page.results import Context, to_results
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pipelines.cli import app, run
from pride_mm.records import Annotation, Item, write_records
from pride_mm.schema import Schema, Turn, Value

TALK = (Turn(speaker="a", text="b"), Turn(speaker="b", text="c"))


def said(item: str, annotator: str, **values: Value) -> Annotation:
    return Annotation(item=item, annotator=annotator, values={}).model_copy(update={"values": values})


def test_what_experts_disagree_on_is_far_and_texts_do_not_count(every_kind: Schema) -> None:
    given = [
        said("same", "a", cause="é", warmth=1, note="one"),
        said("same", "b", cause="é", warmth=1, note="other"),
        said("half", "a", cause="é", warmth=1),
        said("half", "b", cause="$loss", warmth=1),
        said("all", "a", cause="é", warmth=-1),
        said("all", "b", cause="$loss", warmth=2),
        said("alone", "a", cause="é"),
        said("machine", "a", cause="é"),
        said("machine", "m", cause="$loss").model_copy(update={"origin": "model"}),
    ]
    far = disagreement(every_kind, given)
    assert far.keys() == {"same", "half", "all"}
    assert far["same"] == 0 < far["half"] < far["all"] <= 1


def test_how_much_of_a_draft_was_changed(every_kind: Schema) -> None:
    draft: dict[str, Value] = {"cause": "é", "warmth": 1, "note": "A draft."}
    known = {"i": Evidence(0.5, (Prediction(1, "m", draft),)), "none": Evidence()}
    assert changed(every_kind, [said("i", "a", cause="é", warmth=1, note="My own.")], known) == {"i": 0}
    assert changed(every_kind, [said("i", "a", cause="é", warmth=2), said("none", "a", warmth=2)], known) == {"i": 0.5}


def test_doubt_is_the_share_of_drafts_that_the_model_was_surer_of() -> None:
    known = {name: Evidence(score) for name, score in {"a": 0.9, "b": 0.1, "c": 0.5, "d": None}.items()}
    assert doubt(known) == {"a": 0, "b": 1, "c": 0.5}
    assert doubt({"one": Evidence(0.3)}) == {"one": 0}
    assert doubt({}) == {}


@pytest.fixture
def project(studio: Studio, every_kind: Schema) -> Project:
    """Seven tasks: on two of them experts agree or not, on four others a model is more or less sure."""
    made = Project(studio, every_kind, f"O {uuid.uuid4().hex[:8]}")
    names = ("agreed", "disputed", "sure", "unsure", "between", "unknown")
    items = [Item(id=name, corpus="t", group=name, inputs={}) for name in names]
    made.push(
        [item.model_copy(update={"inputs": {"talk": TALK}}) for item in items],
        annotations=[
            said("agreed", "a", warmth=1, cause="é"), said("agreed", "b", warmth=1, cause="é"),
            said("disputed", "a", warmth=2, cause="é"), said("disputed", "b", warmth=-1, cause="$loss"),
        ],
    )  # fmt: skip
    context = Context(Page(every_kind, ()), len(TALK), 0.0)
    drafts = []
    for task in made.tasks():
        scores = {"sure": 0.9, "between": 0.6, "unsure": 0.2, "disputed": 0.95}
        if task.item in scores:
            result = to_results({"warmth": 0}, context, "")
            drafts.append({"task": task.number, "result": result, "score": scores[task.item], "model_version": "m-1"})
    (number,) = made.numbers
    studio.client.projects.import_predictions(id=number, request=drafts)
    return made


def offered(server: LocalServer, project: Project, token: str) -> list[str]:
    """The items that a user is offered one after the other by 'Label Tasks As Displayed', skipping each."""
    (number,) = project.numbers
    (view,) = project.studio.client.views.list(project=number)
    data = view.data if isinstance(view.data, dict) else view.data.dict()  # type: ignore[union-attr]
    found: list[str] = []
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Token {token}"}, trust_env=False, timeout=60
    ) as client:
        while True:
            body = {"project": number, "ordering": data.get("ordering") or []}
            answer = client.post(f"/api/dm/actions/?id=next_task&project={number}&tabID={view.id}", json=body)
            if answer.status_code == 404:
                return found
            assert answer.status_code == 200
            task: dict[str, Any] = answer.json()
            found.append(task["data"]["Item"])
            created = client.post(f"/api/tasks/{task['id']}/annotations/", json={"result": [], "was_cancelled": True})
            assert created.status_code == 201


def token_of(server: LocalServer, email: str, password: str) -> str:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60, follow_redirects=True) as client:
        client.get("/user/login/")
        form = {"email": email, "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post("/user/login/", data=form, headers={"Referer": server.url})
        return str(client.get("/api/current-user/token").json()["token"])


@pytest.mark.label_studio
def test_a_user_is_offered_the_most_uncertain_first(
    server: LocalServer, studio: Studio, project: Project, tmp_path: Path
) -> None:
    annotations = list(project.pull(b"k" * 32).annotations)
    ordered = put_in_order(project, annotations)
    assert (ordered.tasks, ordered.written, ordered.disagreement, ordered.doubt) == (6, 6, 2, 3)
    again = put_in_order(project, annotations)
    assert (again.tasks, again.written) == (6, 0), "nothing moves without news"
    (number,) = project.numbers
    tasks = list(studio.client.tasks.list(project=number, fields="all"))
    places = {task.data["Item"]: task.data[ORDER] for task in tasks}
    assert sorted(places, key=lambda item: -places[item])[:2] in (["unsure", "disputed"], ["disputed", "unsure"])
    seen = offered(server, project, server.credentials.token)
    assert len(seen) == 6
    assert [places[item] for item in seen] == sorted(places.values(), reverse=True)
    assert seen[-1] in ("agreed", "sure"), "what is settled comes last"
    (second,), _ = add_experts(studio, [f"x{uuid.uuid4().hex[:8]}"], tmp_path)
    password = (tmp_path / f"{second.name}.txt").read_text().split()[-1]
    assert offered(server, project, token_of(server, second.email, password)) == seen, "to each who has not done it"


@pytest.mark.label_studio
def test_the_command(
    server: LocalServer, studio: Studio, pride: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    title = f"O {uuid.uuid4().hex[:8]}"
    where = ["--data-dir", os.fspath(server.data_dir), "--project", title]
    assert run(["label", "order", *where]) == 2
    assert f"No project '{title}'" in capsys.readouterr().err
    items = [Item(id=name, corpus="t", group=name, inputs={}) for name in ("i", "j")]
    talks = [item.model_copy(update={"inputs": {"dialogue": TALK}}) for item in items]
    Project(studio, pride, title).push(talks, annotations=[said("i", "a", emotion="sad")])
    given = [said("j", "a", emotion="sad"), said("j", "b", emotion="calm")]
    write_records(Path("annotations.jsonl"), given)
    assert run(["label", "order", "uncertain", "--annotations", "annotations.jsonl", *where]) == 0
    assert "2 tasks in order, 2 moved" in (out := capsys.readouterr().out)
    assert "1 by how far experts disagree, 0 by what one changed" in out
    assert run(["label", "order", *where]) == 0
    assert "2 tasks in order, 1 moved" in capsys.readouterr().out, "by the project's own annotations"
    assert run(["label", "order", "given", *where]) == 0
    project = Project(studio, pride, title)
    assert offered(server, project, server.credentials.token) == ["i", "j"]


@pytest.mark.parametrize("command", ["draft", "assist", "order"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: pride label {command}" in CliRunner().invoke(app, ["label", command, "--help"]).output


@pytest.mark.label_studio
@pytest.mark.browser
def test_the_page_offers_the_most_uncertain_first(
    project: Project, every_kind: Schema, signed_in: Callable[..., Any]
) -> None:
    put_in_order(project, project.pull(b"k" * 32).annotations)
    (address,) = links(project)
    page = signed_in()
    page.goto(address)
    page.wait_for_selector(".pride-notes textarea", timeout=60_000)
    shown = page.locator(".pride-clip").inner_text()
    assert "unsure" in shown or "disputed" in shown
