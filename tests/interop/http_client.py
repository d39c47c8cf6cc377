"""HTTP with nothing but the standard library."""

import json
import urllib.error
import urllib.parse
import urllib.request


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def rows(self):
        return self.json()["rows"]

    @property
    def slug(self):
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json()
        assert problem["status"] == self.status
        return problem["slug"]


class Http:
    def __init__(self, address):
        self.base = f"http://{address}"

    def get(self, path, /, **parameters):
        return self.send("GET", path, parameters)

    def post(self, path, body, content_type, /, **parameters):
        return self.send("POST", path, parameters, body, {"content-type": content_type})

    def send(self, method, path, parameters={}, body=None, headers={}):
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        body = body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(f"{self.base}{path}{query}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())
