"""GitHub and GitLab as servers with sockets, which hold each request to the published contract."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.delivery.hosting import GITHUB, WAITS, Host, Parcel, Target, publish_github, publish_gitlab

_spec = importlib.util.spec_from_file_location("hosts", Path(__file__).with_name("hosts.py"))
hosts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hosts)
Answer, TOKEN = hosts.Answer, hosts.TOKEN

PARCEL = Parcel("toy", "toy/v1", "c0ffee", "ab12", "toy release 1", "toy release 1: pass\n\n- # 1\n", False,
                {"toy-v1.zip": b"PK" * 5000, "toy-v1.html": b"<!doctype html>"})


@pytest.fixture
def github():
    host = hosts.FakeGitHub({"toy/v1": "ab12"})
    yield host
    host.close()
    assert not host.broken, host.broken


@pytest.fixture
def gitlab():
    host = hosts.FakeGitLab({"toy/v1": "c0ffee"})
    yield host
    host.close()
    assert not host.broken, host.broken


def publish(server, parcel=PARCEL, token=TOKEN, naps=None, header="JOB-TOKEN", project=None):
    naps = naps if naps is not None else []
    with httpx.Client(trust_env=False) as client:
        if isinstance(server, hosts.FakeGitHub):
            target = Target("github", server.url, project or "ada/toys", {"Authorization": f"Bearer {token}"})
            return publish_github(Host(target, GITHUB, client), parcel, naps.append)
        target = Target("gitlab", server.url, project or "7", {header: token})
        return publish_gitlab(Host(target, {}, client), parcel, naps.append)


def test_a_release_on_github_is_made_from_the_tag_with_its_files(github):
    assert publish(github) == f"{github.url}/ada/toys/releases/tag/toy/v1"
    [release] = github.releases
    assert (release["tag_name"], release["name"], release["prerelease"]) == ("toy/v1", "toy release 1", False)
    assert release["body"] == PARCEL.description
    assert github.data == PARCEL.files
    assert "GET /repos/ada/toys/releases/tags/toy%2Fv1" in github.asked


def test_publishing_again_on_github_changes_nothing(github):
    publish(github)
    before = len(github.asked)
    publish(github)
    assert {one.split()[0] for one in github.asked[before:]} == {"GET"}


def test_what_differs_on_github_is_replaced_and_what_is_the_same_stays(github):
    publish(github)
    before = len(github.asked)
    changed = replace(PARCEL, description="judged again", files={**PARCEL.files, "toy-v1.html": b"<!doctype html><p>"})
    publish(github, changed)
    assert github.data == changed.files
    assert github.releases[0]["body"] == "judged again"
    changes = [one.split("?")[0] for one in github.asked[before:] if not one.startswith("GET")]
    assert [one.split()[0] for one in changes] == ["PATCH", "DELETE", "POST"]
    assert len(github.assets[1]) == 2


def test_a_release_that_did_not_pass_is_a_prerelease(github):
    publish(github, replace(PARCEL, is_preliminary=True))
    assert github.releases[0]["prerelease"]


@pytest.mark.parametrize(("answer", "nap"), [
    (Answer(503, {"message": "unavailable"}), WAITS[0]), (Answer(429, {}, Retry_After="7"), 7),
    (Answer(403, {"message": "secondary rate limit"}, Retry_After="3"), 3), (Answer(502), WAITS[0])])
def test_a_busy_host_is_asked_again(github, answer, nap):
    github.fail("POST /repos/ada/toys/releases$", answer)
    naps = []
    publish(github, naps=naps)
    assert naps == [nap]
    assert github.data == PARCEL.files


def test_an_upload_whose_answer_got_lost_is_found_and_one_cut_short_is_replaced(github):
    publish(github)
    github.assets[1][0]["state"] = "starter"
    github.assets[1][1]["size"] = 3
    github.fail("POST /uploads", Answer(502), is_late=True)
    naps = []
    publish(github, naps=naps)
    assert [one["state"] for one in github.assets[1]] == ["uploaded", "uploaded"]
    assert naps == [WAITS[0]]
    assert github.data == PARCEL.files


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_a_release_whose_answer_got_lost_is_not_made_twice(kind, request):
    server = request.getfixturevalue(kind)
    server.fail("POST .*/releases$", Answer(504), is_late=True)
    publish(server)
    assert len(server.releases) == 1


def test_a_host_that_stays_busy_is_given_up_with_a_clear_word_and_the_next_try_goes_on(github):
    github.fail("POST /uploads", *[Answer(500)] * 5)
    naps = []
    with pytest.raises(ReleaseError, match=r"Uploading toy-v1.zip did not succeed.*500.*5 times.*try again later"):
        publish(github, naps=naps)
    assert naps == list(WAITS)
    publish(github)
    assert github.data == PARCEL.files
    assert len(github.releases) == 1


def test_a_host_out_of_reach_is_said(github):
    github.server.server_close()
    with pytest.raises(ReleaseError, match="Looking for the repository did not succeed"):
        publish(github)


@pytest.mark.parametrize(("pattern", "status", "words"), [
    ("POST .*releases$", 403, "contents: write"), ("POST .*releases$", 404, "may the token see it"),
    ("POST .*releases$", 422, "push the tag first"), ("POST /uploads", 413, "no file of this size"),
    ("GET", 301, "has moved")])
def test_a_refusal_says_what_to_do(github, pattern, status, words):
    github.fail(pattern, Answer(status, {"message": f"no, {TOKEN}"}))
    with pytest.raises(ReleaseError, match=rf"github refuses.*{status}.*{words}") as found:
        publish(github)
    assert TOKEN not in str(found.value)
    assert "[token]" in str(found.value)


def test_a_wrong_token_is_refused_and_never_shown(github):
    with pytest.raises(ReleaseError, match=r"401.*set a new one") as found:
        publish(github, token="gh-falsch-99")
    assert "gh-falsch-99" not in repr(found.value.to_dict())
    assert "gh-falsch-99" not in repr(found.value)
    assert not [one for one in github.asked if "gh-falsch-99" in one]


def test_a_project_that_is_not_there_is_not_taken_for_a_tag_that_is_not_pushed(github):
    with pytest.raises(ReleaseError, match=r"404.*Is the project right"):
        publish(github, project="ada/other")


@pytest.mark.parametrize(("tags", "parcel", "words"), [
    ({}, PARCEL, r"was not pushed.*git push origin toy/v1"),
    ({"toy/v1": "ff"}, PARCEL, r"another one there than here.*ab12.*ff"),
    ({"toy/v1": "ab12"}, replace(PARCEL, tag_object=""), r"There is no tag toy/v1.*--tag")])
def test_the_tag_on_github_has_to_be_the_one_here(github, tags, parcel, words):
    github.tags = tags
    with pytest.raises(ReleaseError, match=words):
        publish(github, parcel)
    assert not github.releases


@pytest.mark.parametrize("header", ["JOB-TOKEN", "PRIVATE-TOKEN"])
def test_a_release_on_gitlab_links_to_its_files_in_the_package_registry(gitlab, header):
    assert publish(gitlab, header=header) == "https://gitlab.example.org/ada/toys/-/releases/toy/v1"
    assert {name: data for _, name, data in gitlab.packages[("toy", "1")]} == PARCEL.files
    assert gitlab.releases["toy/v1"]["description"] == PARCEL.description
    assert [one["url"] for one in gitlab.links] == [
        f"{gitlab.url}/projects/7/packages/generic/toy/1/{name}" for name in PARCEL.files]


def test_publishing_again_on_gitlab_changes_nothing_and_a_change_is_uploaded(gitlab):
    publish(gitlab)
    before = len(gitlab.asked)
    publish(gitlab)
    assert {one.split()[0] for one in gitlab.asked[before:]} == {"GET"}
    changed = replace(PARCEL, description="judged again", files={**PARCEL.files, "toy-v1.html": b"<p>"})
    publish(gitlab, changed)
    assert {name: data for _, name, data in gitlab.packages[("toy", "1")]} == changed.files
    assert gitlab.releases["toy/v1"]["description"] == "judged again"
    assert len(gitlab.links) == 2
    publish(gitlab)
    assert {name: data for _, name, data in gitlab.packages[("toy", "1")]} == PARCEL.files  # the newest counts


def test_a_link_that_leads_elsewhere_is_replaced(gitlab):
    publish(gitlab)
    gitlab.links[0]["url"] = "https://example.org/elsewhere"
    publish(gitlab)
    assert len({one["url"] for one in gitlab.links}) == 2
    assert "https://example.org/elsewhere" not in {one["url"] for one in gitlab.links}


@pytest.mark.parametrize(("commits", "words"), [
    ({}, r"422.*Ref is not specified.*push the tag first"), ({"toy/v1": "ff"}, "another one there than here")])
def test_the_tag_on_gitlab_has_to_be_the_one_here(gitlab, commits, words):
    gitlab.commits = commits
    with pytest.raises(ReleaseError, match=words):
        publish(gitlab)
    assert not gitlab.packages


@pytest.mark.parametrize("pattern", ["POST .*/releases$", "PUT .*generic", "POST .*links", "GET .*packages"])
def test_a_busy_gitlab_is_asked_again(gitlab, pattern):
    gitlab.fail(pattern, Answer(503), Answer(429, {}, Retry_After="2"))
    naps = []
    publish(gitlab, naps=naps)
    assert naps == [WAITS[0], 2]
    assert {name: data for _, name, data in gitlab.packages[("toy", "1")]} == PARCEL.files


def test_a_wrong_token_for_gitlab_is_refused_and_never_shown(gitlab):
    with pytest.raises(ReleaseError, match=r"gitlab refuses.*401.*set a new one") as found:
        publish(gitlab, token="glpat-falsch")
    assert "glpat-falsch" not in str(found.value)
