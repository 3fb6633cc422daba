#!/usr/bin/env python3
"""Qdrant's REST API over the real Qdrant engine, for tests and for trying things out.

The engine is qdrant-edge-py (Qdrant's own storage and search as a library); this file is only the HTTP around it:
the requests that the gateway makes, in the shapes of Qdrant's OpenAPI description, with its errors and statuses.
Unknown request fields are refused, so that a request that does not fit the description fails a test.

  qdrant_front.py --port 6333 --path DIR [--api-key KEY]

POST /__test__/config sets faults until they are reset with {}:
  {"fail_next": 3, "fail_status": 500}   the next three requests fail with that status
  {"delay_ms": 500}                      every request waits first
  {"update_status": "acknowledged"}      updates answer that status, and are not applied
  {"garbage": true}                      every answer is HTML
  {"version": [1, 15]}                   it is a server of that version
  {"apply_then_drop": true}              updates are applied, then the connection is closed without an answer
GET /__test__/stats counts the requests by route.
"""
import argparse
import datetime
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import qdrant_edge as q

DISTANCES = {"Cosine": q.Distance.Cosine, "Dot": q.Distance.Dot, "Euclid": q.Distance.Euclid}
INDEXES = {"keyword": q.PayloadSchemaType.Keyword, "integer": q.PayloadSchemaType.Integer,
           "float": q.PayloadSchemaType.Float, "bool": q.PayloadSchemaType.Bool,
           "datetime": q.PayloadSchemaType.Datetime, "text": q.PayloadSchemaType.Text}


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


class Whole(dict):
    """An answer that is not wrapped into a result."""


def only(body, *names):
    """The body, when it is an object that has none but these fields."""
    if not isinstance(body, dict):
        raise Refused(400, "Format error in JSON body: expected an object")
    for name in body:
        if name not in names:
            raise Refused(400, f"Format error in JSON body: unknown field `{name}`")
    return body


# ---------------------------------------------------------------- requests of the API → requests of the engine

def condition(c):
    if "must" in c or "should" in c or "must_not" in c:
        return filter_of(c)
    if "has_id" in c:
        return q.HasIdCondition(set(only(c, "has_id")["has_id"]))
    if "is_empty" in c:
        return q.IsEmptyCondition(only(c, "is_empty")["is_empty"]["key"])
    only(c, "key", "match", "range")
    if "match" in c:
        m = only(c["match"], "value", "any")
        return q.FieldCondition(c["key"], match=q.MatchValue(m["value"]) if "value" in m else q.MatchAny(m["any"]))
    r = only(c["range"], "gt", "gte", "lt", "lte")
    if any(isinstance(v, str) for v in r.values()):
        moments = {k: datetime.datetime.fromisoformat(v.replace("Z", "+00:00")).isoformat() for k, v in r.items()}
        return q.FieldCondition(c["key"], range=q.RangeDateTime(**moments))
    return q.FieldCondition(c["key"], range=q.RangeFloat(**r))


def filter_of(f):
    if f is None:
        return None
    only(f, "must", "should", "must_not")
    return q.Filter(**{k: [condition(c) for c in v] for k, v in f.items()})


def query_of(s):
    only(s, "query", "using", "filter", "limit", "with_payload", "with_vector", "params", "score_threshold")
    given = s.get("query")
    vector = q.SparseVector(**only(given, "indices", "values")) if isinstance(given, dict) else given
    params = None
    if s.get("params"):
        p = only(s["params"], "idf", "exact", "hnsw_ef", "indexed_only")
        idf = q.IdfParams(corpus=filter_of(p["idf"]["corpus"])) if isinstance(p.get("idf"), dict) else None
        params = q.SearchParams(exact=p.get("exact", False), hnsw_ef=p.get("hnsw_ef"), idf=idf)
    return q.QueryRequest(
        limit=s.get("limit", 10), query=q.Query.Nearest(vector, s.get("using")) if vector is not None else None,
        filter=filter_of(s.get("filter")), with_payload=s.get("with_payload", False),
        with_vector=s.get("with_vector", False), score_threshold=s.get("score_threshold"), params=params)


def vector_of(given):
    if isinstance(given, list):
        return given
    return {name: q.SparseVector(**only(v, "indices", "values")) if isinstance(v, dict) else v
            for name, v in given.items()}


def plain(vector):
    if isinstance(vector, q.SparseVector):
        return {"indices": vector.indices, "values": vector.values}
    if isinstance(vector, dict):
        return {name: plain(v) for name, v in vector.items()}
    return vector


# ---------------------------------------------------------------- collections

class Collection:
    def __init__(self, path, config=None):
        self.path, self.file = path, os.path.join(path, "collection.json")
        self.lock, self.operations = threading.Lock(), 0
        if config is None:
            with open(self.file) as f:
                saved = json.load(f)
            self.config, self.indexes = saved["config"], saved["indexes"]
            self.shard = q.EdgeShard.load(os.path.join(path, "shard"))
            return
        self.config, self.indexes = config, {}
        os.makedirs(os.path.join(path, "shard"))
        dense = config["vectors"]
        self.shard = q.EdgeShard.create(os.path.join(path, "shard"), q.EdgeConfig(
            vectors=q.EdgeVectorParams(dense["size"], DISTANCES[dense["distance"]]),
            sparse_vectors={name: q.EdgeSparseVectorParams(
                modifier=q.Modifier.Idf if p.get("modifier") == "idf" else None)
                for name, p in (config.get("sparse_vectors") or {}).items()},
            on_disk_payload=config.get("on_disk_payload", False)))
        self.save()

    def save(self):
        with open(self.file, "w") as f:
            json.dump({"config": self.config, "indexes": self.indexes}, f)

    def add_index(self, field, schema):
        kind = schema if isinstance(schema, str) else schema["type"]
        with self.lock:
            self.shard.update(q.UpdateOperation.create_field_index(field, INDEXES[kind]))
            self.indexes[field] = {"data_type": kind, "points": 0}
            if isinstance(schema, dict):
                self.indexes[field]["params"] = schema
            self.save()

    def update(self, operation):
        with self.lock:
            self.shard.update(operation)
            self.operations += 1
            return self.operations

    def describe(self):
        info = self.shard.info()
        params = {k: v for k, v in self.config.items() if k in ("vectors", "sparse_vectors", "on_disk_payload")}
        return {"status": "green", "optimizer_status": "ok", "points_count": info.points_count,
                "segments_count": info.segments_count, "payload_schema": self.indexes,
                "config": {"params": params, "hnsw_config": self.config.get("hnsw_config") or {},
                           "optimizer_config": {}}}


class Store:
    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        os.makedirs(path, exist_ok=True)
        self.collections = {n: Collection(os.path.join(path, n)) for n in sorted(os.listdir(path))}

    def get(self, name):
        found = self.collections.get(name)
        if found is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def create(self, name, body):
        only(body, "vectors", "sparse_vectors", "on_disk_payload", "hnsw_config", "optimizers_config")
        with self.lock:
            if name in self.collections:
                raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
            self.collections[name] = Collection(os.path.join(self.path, name), body)

    def drop(self, name):
        with self.lock:
            found = self.collections.pop(name, None)
            if found is not None:
                found.shard.close()
                shutil.rmtree(found.path)
        return found is not None


# ---------------------------------------------------------------- HTTP

class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    store, api_key, faults, stats = None, None, {}, Counter()

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def handle_any(self):
        started = time.perf_counter()
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        url = urlsplit(self.path)
        parts = [unquote(p) for p in url.path.strip("/").split("/")]
        if parts[0] == "__test__":
            return self.test_route(parts, raw)
        self.stats[f"{self.command} /{'/'.join(parts[2:] if parts[0] == 'collections' else parts)}"] += 1
        faults = type(self).faults
        if faults.get("delay_ms"):
            time.sleep(faults["delay_ms"] / 1000)
        if faults.get("garbage"):
            return self.answer(200, b"<html>It works!</html>", "text/html")
        try:
            if self.api_key and self.headers.get("api-key") != self.api_key:
                return self.answer(401, b"Must provide an API key or an Authorization bearer token", "text/plain")
            if faults.get("fail_next", 0) > 0:
                faults["fail_next"] -= 1
                raise Refused(faults.get("fail_status", 500), "Service internal error: asked to fail")
            result = self.route(parts, parse_qs(url.query), json.loads(raw) if raw else None)
            if isinstance(result, Whole):
                return self.answer(200, dict(result))
            if isinstance(result, bytes):
                return self.answer(200, result, "text/plain")
            if result is None:  # apply_then_drop
                self.close_connection = True
                return
            status, payload = 200, {"result": result, "status": "ok", "time": time.perf_counter() - started}
        except Refused as e:
            status, payload = e.status, {"status": {"error": e.message}, "time": 0.0, "result": None}
        except (ValueError, KeyError, TypeError) as e:
            status, payload = 400, {"status": {"error": f"Wrong input: {e}"}, "time": 0.0, "result": None}
        except Exception as e:  # the engine's own errors
            status = 400 if "imension" in str(e) or "not found" in str(e) else 500
            payload = {"status": {"error": str(e)}, "time": 0.0, "result": None}
        self.answer(status, payload)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def test_route(self, parts, raw):
        if parts[1] == "config":
            type(self).faults = json.loads(raw or b"{}")
            return self.answer(200, type(self).faults)
        return self.answer(200, dict(self.stats))

    def route(self, parts, query, body):
        method = self.command
        if parts == [""]:
            return Whole({"title": "qdrant - vector search engine", "version": ".".join(map(str, self.version())) + ".0"})
        if parts[0] in ("healthz", "readyz", "livez"):
            return b"healthz check passed"
        if parts == ["collections"]:
            return {"collections": [{"name": n} for n in self.store.collections]}
        if parts[0] != "collections":
            raise Refused(404, "Not found")
        name, rest = parts[1], "/".join(parts[2:])
        if not rest:
            if method == "PUT":
                self.store.create(name, body)
                return True
            if method == "DELETE":
                return self.store.drop(name)
            return self.store.get(name).describe()
        found = self.store.get(name)
        if rest == "index" and method == "PUT":
            only(body, "field_name", "field_schema")
            found.add_index(body["field_name"], body["field_schema"])
            return self.updated(found)
        if rest == "points" and method == "PUT":
            only(body, "points", "update_filter")
            points = [q.Point(only(p, "id", "vector", "payload")["id"], vector_of(p["vector"]), p.get("payload"))
                      for p in body["points"]]
            # A server before 1.16 overlooks the filter.
            condition = filter_of(body.get("update_filter")) if self.version() >= (1, 16) else None
            return self.apply(found, q.UpdateOperation.upsert_points(points, condition), query)
        if rest == "points/delete":
            only(body, "points", "filter")
            operation = (q.UpdateOperation.delete_points(body["points"]) if "points" in body
                         else q.UpdateOperation.delete_points_by_filter(filter_of(body["filter"])))
            return self.apply(found, operation, query)
        if rest == "points" and method == "POST":
            only(body, "ids", "with_payload", "with_vector")
            records = found.shard.retrieve(body["ids"], body.get("with_payload", False), body.get("with_vector", False))
            return [self.record(r) for r in records]
        if rest == "points/query/batch":
            searches = [query_of(s) for s in only(body, "searches")["searches"]]
            answers = found.shard.query_batch(q.QueryBatchRequest(searches))
            return [{"points": [self.scored(p) for p in points]} for points in answers]
        if rest == "points/query":
            return {"points": [self.scored(p) for p in found.shard.query(query_of(body))]}
        if rest == "points/count":
            only(body, "filter", "exact")
            return {"count": found.shard.count(q.CountRequest(True, filter_of(body.get("filter"))))}
        if rest == "points/scroll":
            only(body, "filter", "limit", "offset", "with_payload", "with_vector")
            records, following = found.shard.scroll(q.ScrollRequest(
                offset=body.get("offset"), limit=body.get("limit", 10), filter=filter_of(body.get("filter")),
                with_payload=body.get("with_payload", True), with_vector=body.get("with_vector", False)))
            return {"points": [self.record(r) for r in records], "next_page_offset": following}
        raise Refused(404, "Not found")

    def version(self):
        return tuple(type(self).faults.get("version", (1, 19)))

    def apply(self, found, operation, query):
        status = type(self).faults.get("update_status")
        if status:
            return {"operation_id": found.operations, "status": status}
        found.update(operation)
        if type(self).faults.get("apply_then_drop"):
            return None
        return self.updated(found, "completed" if query.get("wait") == ["true"] else "acknowledged")

    @staticmethod
    def updated(found, status="completed"):
        return {"operation_id": found.operations, "status": status}

    @staticmethod
    def scored(p):
        out = {"id": p.id, "version": p.version, "score": p.score}
        return out if p.payload is None else {**out, "payload": p.payload}

    @staticmethod
    def record(r):
        out = {"id": r.id}
        if r.payload is not None:
            out["payload"] = r.payload
        if r.vector is not None:
            out["vector"] = plain(r.vector)
        return out


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256

    def handle_error(self, request, client_address):
        pass  # a client that went away


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=6333)
    ap.add_argument("--path", required=True)
    ap.add_argument("--api-key")
    a = ap.parse_args()
    Handler.store, Handler.api_key = Store(a.path), a.api_key
    server = Server((a.host, a.port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"qdrant (engine {getattr(q, '__version__', 'edge')}) on http://{a.host}:{server.server_port}", flush=True)
    server.serve_forever()
    for collection in Handler.store.collections.values():
        collection.shard.flush()
