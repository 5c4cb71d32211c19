"""GitHub and GitLab on sockets of this machine: they hold each request to what their documentation asks for."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import jsonschema

TOKEN = "geheim-4711"
TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
# Bodies as documented: "Create a release" and "Update a release" of GitHub, "Create a release", "Update a release" and
# "Create a link" of GitLab.
GITHUB_RELEASE = {"type": "object", "additionalProperties": False, "properties": {
    "tag_name": TEXT, "target_commitish": TEXT, "name": TEXT, "body": TEXT, "draft": FLAG, "prerelease": FLAG,
    "discussion_category_name": TEXT, "generate_release_notes": FLAG,
    "make_latest": {"enum": ["true", "false", "legacy"]}}}
GITLAB_RELEASE = {"type": "object", "additionalProperties": False, "properties": {
    "name": TEXT, "tag_name": TEXT, "tag_message": TEXT, "description": TEXT, "ref": TEXT, "released_at": TEXT,
    "milestones": {"type": "array"}, "assets": {"type": "object"}}}
GITLAB_LINK = {"type": "object", "additionalProperties": False, "required": ["name", "url"], "properties": {
    "name": TEXT, "url": {"type": "string", "pattern": "^https?://"}, "direct_asset_path": TEXT,
    "link_type": {"enum": ["other", "runbook", "image", "package"]}}}


class Answer(Exception):
    """End a request with this status and this body."""

    def __init__(self, status, body=None, **headers):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class FakeHost:
    """A host with its routes, what it holds, and the faults that it is to show: answers that come before any route."""

    def __init__(self):
        self.asked, self.faults, self.broken = [], [], []
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                host.asked.append(f"{self.command} {self.path}")
                try:
                    host.route(self.command, urlsplit(self.path), self.headers, body)
                    raise AssertionError("no answer")
                except Answer as one:
                    status, data, headers = one.status, one.body, one.headers
                except Exception as error:
                    host.broken.append(f"{self.command} {self.path}: {error!r}")
                    status, data, headers = 400, {"message": repr(error)}, {}
                data = b"" if data is None else json.dumps(data).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, pattern, *answers, is_late=False):
        """Give each of `answers` once, in this order, to requests that fit; a late one comes after they had effect."""
        self.faults += [(pattern, one, is_late) for one in answers]

    def route(self, method, url, headers, body):
        fault = next((one for one in self.faults if re.search(one[0], f"{method} {unquote(url.path)}")), None)
        if fault:
            self.faults.remove(fault)
        if fault and not fault[2]:
            raise fault[1]
        try:
            self.serve(method, url, headers, body)
        except Answer:
            if fault:
                raise fault[1] from None
            raise


class FakeGitHub(FakeHost):
    """A repository ada/toys with one pushed tag."""

    def __init__(self, tags):
        super().__init__()
        self.tags, self.releases, self.assets, self.data, self.number = tags, [], {}, {}, 0

    def serve(self, method, url, headers, body):
        assert headers["X-GitHub-Api-Version"] == "2022-11-28"
        assert headers["Accept"] == "application/vnd.github+json"
        if headers["Authorization"] != f"Bearer {TOKEN}":
            raise Answer(401, {"message": f"Bad credentials: {headers['Authorization']}"})
        query, path = parse_qs(url.query), url.path
        if path.startswith("/uploads/"):
            self.upload(method, path, query, headers, body)
        home = "/repos/ada/toys"
        if not path.startswith(home):
            raise Answer(404, {"message": "Not Found"})
        path = path.removeprefix(home)
        if (method, path) == ("GET", ""):
            raise Answer(200, {"full_name": "ada/toys"})
        if found := re.fullmatch(r"/git/ref/tags/(.+)", path):
            sha = self.tags.get(unquote(found[1]))
            raise Answer(200, {"ref": f"refs/tags/{found[1]}", "object": {"type": "tag", "sha": sha}}) if sha else \
                Answer(404, {"message": "Not Found"})
        if found := re.fullmatch(r"/releases/tags/([^/]+)", path):
            one = [one for one in self.releases if one["tag_name"] == unquote(found[1])]
            raise Answer(200, one[0]) if one else Answer(404, {"message": "Not Found"})
        self.change(method, path, body)
        assert method in ("GET", "DELETE"), f"{method} {path}"
        if found := re.fullmatch(r"/releases/(\d+)/assets", path):
            assert 1 <= int(query["per_page"][0]) <= 100
            raise Answer(200, self.assets[int(found[1])])
        number = int(re.fullmatch(r"/releases/assets/(\d+)", path)[1])
        for assets in self.assets.values():
            assets[:] = [one for one in assets if one["id"] != number]
        raise Answer(204)

    def change(self, method, path, body):
        """Create or update a release."""
        if method not in ("POST", "PATCH"):
            return
        wanted = json.loads(body)
        jsonschema.validate(wanted, GITHUB_RELEASE)
        if method == "PATCH":
            number = int(re.fullmatch(r"/releases/(\d+)", path)[1])
            release = next(one for one in self.releases if one["id"] == number)
            raise Answer(200, release.update(wanted) or release)
        assert path == "/releases"
        if any(one["tag_name"] == wanted["tag_name"] for one in self.releases):
            raise Answer(422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]})
        self.number += 1
        release = {"id": self.number, "html_url": f"{self.url}/ada/toys/releases/tag/{wanted['tag_name']}",
                   "upload_url": f"{self.url}/uploads/repos/ada/toys/releases/{self.number}/assets{{?name,label}}",
                   **wanted}
        self.releases.append(release)
        self.assets[self.number] = []
        raise Answer(201, release)

    def upload(self, method, path, query, headers, body):
        number = int(re.fullmatch(r"/uploads/repos/ada/toys/releases/(\d+)/assets", path)[1])
        assert method == "POST"
        assert headers["Content-Type"] in ("application/zip", "text/html")
        assert "Transfer-Encoding" not in headers
        name = query["name"][0]
        assert re.fullmatch(r"[\w.-]+", name), "GitHub renames what has other characters"
        if any(one["name"] == name for one in self.assets[number]):
            raise Answer(422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]})
        self.number += 1
        self.data[name] = body
        self.assets[number].append({"id": self.number, "name": name, "size": len(body), "state": "uploaded"})
        raise Answer(201, self.assets[number][-1])


class FakeGitLab(FakeHost):
    """A project 7 with one pushed tag, below a path as on a server of one's own."""

    def __init__(self, commits):
        super().__init__()
        self.commits, self.releases, self.packages, self.links, self.number = commits, {}, {}, [], 0
        self.url += "/api/v4"

    def serve(self, method, url, headers, body):
        if TOKEN not in (headers["JOB-TOKEN"], headers["PRIVATE-TOKEN"]):
            raise Answer(401, {"message": "401 Unauthorized"})
        home = "/api/v4/projects/7"
        if not url.path.startswith(f"{home}/"):
            raise Answer(404, {"message": "404 Project Not Found"})
        path, query = url.path.removeprefix(home), parse_qs(url.query)
        if path.startswith("/packages"):
            self.serve_packages(method, path, query, body)
        if found := re.fullmatch(r"/releases/([^/]+)/assets/links(?:/(\d+))?", path):
            self.serve_links(method, found[2], body)
        found = re.fullmatch(r"/releases(?:/([^/]+))?", path)
        name = unquote(found[1] or "")
        if method == "GET":
            found = self.releases.get(name)
            raise Answer(200, found) if found else Answer(404, {"message": "404 Not Found"})
        wanted = json.loads(body)
        jsonschema.validate(wanted, GITLAB_RELEASE)
        if method == "PUT":
            assert "tag_name" not in wanted
            raise Answer(200, self.releases[name].update(wanted) or self.releases[name])
        assert (method, name) == ("POST", "")
        name = wanted["tag_name"]
        if name in self.releases:
            raise Answer(409, {"message": "Release already exists"})
        if name not in self.commits:
            raise Answer(422, {"message": "Ref is not specified"})
        self.releases[name] = {**wanted, "commit": {"id": self.commits[name]},
                               "_links": {"self": f"https://gitlab.example.org/ada/toys/-/releases/{name}"}}
        raise Answer(201, self.releases[name])

    def serve_packages(self, method, path, query, body):
        if found := re.fullmatch(r"/packages/generic/([\w.~+@-]+)/([\w.~+-]+)/([\w.~+@-]+)", path):
            assert method == "PUT"
            self.number += 1
            self.packages.setdefault(found.groups()[:2], []).append((self.number, found[3], body))
            raise Answer(201, {"message": "201 Created"})
        assert method == "GET"
        if path == "/packages":
            assert query["package_type"] == ["generic"]
            raise Answer(200, [{"id": number, "name": one[0], "version": one[1]} for number, one in
                               enumerate(self.packages) if query["package_name"][0] in one[0]])
        files = list(self.packages.values())[int(re.fullmatch(r"/packages/(\d+)/package_files", path)[1])]
        raise Answer(200, [{"id": number, "file_name": name, "size": len(data),
                            "file_sha256": hashlib.sha256(data).hexdigest()} for number, name, data in files])

    def serve_links(self, method, number, body):
        if method == "GET":
            raise Answer(200, self.links)
        if method == "DELETE":
            self.links = [one for one in self.links if one["id"] != int(number)]
            raise Answer(200, {})
        wanted = json.loads(body)
        jsonschema.validate(wanted, GITLAB_LINK)
        if any(one["name"] == wanted["name"] or one["url"] == wanted["url"] for one in self.links):
            raise Answer(400, {"message": "has already been taken"})
        self.number += 1
        self.links.append({"id": self.number, **wanted})
        raise Answer(201, self.links[-1])
