"""The doors: what comes in from outside and is read by Tango, each with good inputs and the errors by which it refuses others."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tango.errors import TangoError
from tests.fuzz.mutations import mutated, packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One way in."""

    good: Callable[[], list[bytes]]
    """Inputs that are taken."""
    odd: Callable[[], list[bytes]] = list
    """Further inputs of which others are made: what is refused as it is."""
    enter: Callable[[bytes, random.Random, Path], object]
    """(input, chance, folder for files): what reads it."""
    refusals: tuple[type[Exception], ...] = (TangoError,)
    """Errors that are answers."""
    changed: Callable[[random.Random, list[bytes]], bytes] = field(default=mutated)
    """How an input is made of the good ones."""


# ---- traces ---------------------------------------------------------------------------------------------------------------

_CSV = (
    "arrival_s,class,service,cluster,cpu_work_s,memory_mib\n0.5,lc,web,c1,0.02,32\n1.5,be,batch,~7,1.0,512\n3.5,be,,,2.0,\n",
    "0,2,10,0,77,0,user=,3,9,,,,\n600000000,,20,0,,0,user=,0,0,0.5,0.25,0.001,0\n600500000,,20,0,5,1,u=,0,0,0.5,0.25,0.001,0\n"
    "610500000,,20,0,5,4,user=,0,0,0.5,0.25,0.001,0\n",
    "M1,1,j_1,1,Terminated,100,110,50,0.2\nM2,1,j_1,1,Running,120,0,100,0.4\n",
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109",
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-12 00:00:00+00:00,2162,5\n2024-05-12 00:00:00.017335+00:00,2399,6\n",
    "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 00:00:01,0,9,9\n2024-10-15 00:00:02.5,2,9,9\n",
    "time,type,collection_id,scheduling_class,instance_index,resource_request.cpus\n5000000,0,1,2,0,0.5\n6000000,0,1,0,1,\n",
    "period,count\n1998-05-01 00:00:00,12\n1998-05-01 00:01:00,3\n",
    '{"time":"5000000","type":0,"collection_id":"1","scheduling_class":2,"instance_index":0,"resource_request":{"cpus":0.5}}\n' * 2,
)


def _traces() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet

    def parquet(columns: dict[str, pa.Array], **options: object) -> bytes:
        out = io.BytesIO()
        pa.parquet.write_table(pa.table(columns), out, **options)
        return out.getvalue()

    ids = {name: pa.array([1, 0]) for name in ("type", "collection_id", "scheduling_class", "instance_index")}
    request = pa.array([{"cpus": 0.5, "memory": 0.25}] * 2)
    return [
        *(text.encode() for text in _CSV),
        parquet({"arrival_s": pa.array([0.5, 1.5]), "class": pa.array(["lc", "be"]), "cpu_work_s": pa.array([0.1, None])}),
        parquet(
            {"arrival_s": pa.array(["1", "2"]), "class": pa.array(["lc", "be"]), "service": pa.array(["a", "b"])},
            compression="none",
        ),
        parquet({"time": pa.array([600_000_000] * 2), **ids, "resource_request": request}, compression="zstd"),
        parquet({"time": pa.array([600] * 2, pa.timestamp("s")), **ids}, use_deprecated_int96_timestamps=True),
        parquet({"time": pa.array([600_000] * 2, pa.duration("ms")), **ids, "cpus": pa.array([0.5, None])}, compression="none"),
    ]


def _trace(data: bytes, rng: random.Random, folder: Path) -> object:
    from tango.traces import FORMATS, info_of, read_trace

    path = folder / "trace"
    path.write_bytes(data)
    map_ = rng.choice(_MAPS) if rng.random() < 0.3 else ""
    format_ = rng.choice(tuple(FORMATS)) if not map_ and rng.random() < 0.2 else None
    reading = read_trace(path, format=format_, map=map_, skip_bad=rng.random() < 0.5)
    reading.refusals.write(folder / "bad.csv")
    return info_of(reading)


_MAPS = (
    "arrival_s=arrival_s,class=class,cpu_work_s=cpu_work_s * 2,service=default(service, 'web')",
    "arrival_s=c1 / 1e6,class='lc' if c2 == 'be' else 'be',memory_mib=abs(c3)",
    "arrival_s=number(time) if time != '0' else 1 / number(type),class='be',cpu_work_s=resource_request.cpus",
    "arrival_s=seconds(TIMESTAMP),cpu_work_s=max(GeneratedTokens, 1) / (ContextTokens - 374),cluster='~' + text(ContextTokens)",
    "arrival_s=seconds(period) - log(count, 2) ** 3 // 7 % 5,service=upper(period) if count in (3, 12) and not '01' in period else ''",
)
_TABLE = b"t,u,name,odd name,at\n1,2.5,a,x,2026-01-01 00:00:00\n-3,,b,,2026-01-02T10:00:00Z\n7,nan,,y,\n"
_MAPS_OF_TABLE = (
    "arrival_s=t,class='lc' if u < 3 else 'be',service=name",
    "arrival_s=seconds(t, 'ms') + round(default(u, 0), 2),cluster='~' + `odd name`",
    "arrival_s=default(seconds(at), seconds('2026-01-01 12:00:00')),service=lower(column('odd name')) + strip(name)",
    "arrival_s=min(t, 5, abs(-t)) ** 2 // 3 % 4,cpu_work_s=sqrt(exp(t)) if t > 0 and not u != u or starts(name, 'a') else abs(ceil(t))",
)


def _mapped(data: bytes, rng: random.Random, folder: Path) -> object:
    from tango.traces import info_of, read_trace

    path = folder / "table"
    path.write_bytes(_TABLE)
    return info_of(read_trace(path, map=data.decode("utf-8", "replace") or " ", skip_bad=rng.random() < 0.5))


def _changed_trace(rng: random.Random, good: list[bytes]) -> bytes:
    data = mutated(rng, good)
    return packed(rng, data) if rng.random() < 0.4 else data


# ---- YAML -----------------------------------------------------------------------------------------------------------------

_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: k
  cluster: {server: "http://127.0.0.1:46443", tls-server-name: edge, proxy-url: "http://u:p@127.0.0.1:9"}
- name: s
  cluster:
    server: https://[::1]:6443/prefix
    certificate-authority-data: bm9uZQ==
    insecure-skip-tls-verify: true
users:
- name: u
  user: {token: tok-tango}
- name: j
  user: {token: eyJhIjoxfQ.eyJleHAiOjE4MDAwMDAwMDB9.c2ln, tokenFile: no-such-token, username: a, password: b}
- name: x
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin-tango, args: [a], env: [{name: A, value: b}]}}
contexts:
- name: ctx
  context: {cluster: k, user: USER, namespace: tango}
current-context: ctx
"""


def _kubeconfigs() -> list[bytes]:
    return [_KUBECONFIG.replace("USER", user).encode() for user in "uj"]


def _odd_kubeconfigs() -> list[bytes]:
    """A plug-in that is not there, and a certificate that is none."""
    other = _KUBECONFIG.replace("cluster: k, user: USER", "cluster: s, user: u")
    return [_KUBECONFIG.replace("USER", "x").encode(), other.encode()]


def _kubeconfig(data: bytes, _rng: random.Random, folder: Path) -> object:
    from tango.kube.credentials import Credentials, current_context

    path = folder / "config"
    path.write_bytes(data)
    with contextlib.suppress(TangoError):
        current_context(str(path))
    return asyncio.run(Credentials(str(path), "ctx").load())


def _fleets() -> list[bytes]:
    from tango.fleets import dump_fleet, load_fleet
    from tango.fleets.catalog import _DATA

    written = [(_DATA / f"{name}.yaml").read_bytes() for name in ("single", "demo", "paper")]
    return [*written, dump_fleet(load_fleet("single")).encode()]


def _fleet(data: bytes, _rng: random.Random, folder: Path) -> object:
    from tango.fleets import load_fleet

    path = folder / "fleet.yaml"
    path.write_bytes(data)
    return load_fleet(path)


_SERVICES = """\
apiVersion: tango/v1
kind: Service
metadata: {name: web}
spec:
  class: lc
  target_ms: 120
  cpu_work_s: 0.02
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: work
        image: web:1
        ports: [{containerPort: 8080}]
        env: [{name: A, value: "1"}]
        resources: {requests: {cpu: 500m, memory: 64Mi}, limits: {cpu: "1", memory: 128Mi, example.com/gpu: 1}}
---
apiVersion: tango/v1
kind: Service
metadata: {name: batch}
spec: {<<: {class: be}, cpu_work_s: 1.0, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 200}
"""


def _services() -> list[bytes]:
    return [_SERVICES.encode(), _SERVICES.replace("<<: {class: be}", "class: be").encode()]


def _service(data: bytes, _rng: random.Random, folder: Path) -> object:
    from tango.fleets import load_services

    path = folder / "services.yaml"
    path.write_bytes(data)
    return load_services(path)


# ---- tenants -------------------------------------------------------------------------------------------------------------


def _tenants() -> list[bytes]:
    return [
        b"apiVersion: tango/v1\nkind: Tenant\nmetadata: {name: blue}\n"
        b"spec:\n  weight: 2.5\n  quota: {cpu: 2500m, memory: 16Gi, nvidia.com/gpu: 2}\n  jobs: 100\n"
        b"---\napiVersion: tango.dev/v1\nkind: Tenant\nmetadata: {name: red}\nspec: {}\n"
    ]


def _tenant(data: bytes, _rng: random.Random, folder: Path) -> object:
    from tango.fleets import load_tenants

    path = folder / "tenants.yaml"
    path.write_bytes(data)
    return load_tenants(path)


# ---- results of SQL -------------------------------------------------------------------------------------------------------

_LITERALS = (
    "'infinity'::timestamptz",
    "'-infinity'::date",
    "'0044-03-15 BC'::date",
    "'5874897-12-31'::date",
    "'294276-12-31'::timestamp",
    "'4713-01-01 BC'::timestamptz",
    "'2026-11-30 12:00:00+14:59:59'::timestamptz",
    "'24:00'::time",
    "'23:59:60+15'::timetz",
    "interval '-1 day 02:03:04'",
    "interval '178000000 years'",
    "'NaN'::float8",
    "'-Infinity'::float4",
    "'NaN'::numeric",
    "'Infinity'::numeric",
    "1e300::numeric",
    "0.1234567890123456789012345::numeric",
    "9223372036854775807::int8",
    "'\\x00ff'::bytea",
    "ARRAY['infinity'::date, NULL]",
    "ARRAY['NaN'::float8, 1]",
    "ARRAY[[1,2],[3,4]]",
    "ARRAY[]::text[]",
    "ARRAY['a,b', NULL, E'\\n\"']",
    "ARRAY['NaN'::numeric]",
    "ARRAY['0044-03-15 BC'::timestamptz]",
    "'{\"a\": [1e400]}'::json",
    "'[null, true]'::jsonb",
    "('[' || repeat('[', 3000) || repeat(']', 3000) || ']')::json",
    "'[1,5)'::int4range",
    "'[2026-01-01,infinity)'::daterange",
    "row(1, 'a', NULL)",
    "'1.2.3.4/8'::inet",
    "'(1,2)'::point",
    "'<a/>'::text",
    "B'101'",
    "'$9.99'::text::varchar",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
    "'17'::oid",
    "'a'::\"char\"",
    "NULL",
    "true",
    "E'\\u202e\\x1b[31m'",
    "''",
)
"""Values at the edges of their types."""


def _queries() -> list[bytes]:
    return [
        b"SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a",
        b"-- a comment\nSELECT 'x'::text AS \"a b\", 1.5 AS n FROM generate_series(1, 3)",
    ]


def _changed_query(rng: random.Random, good: list[bytes]) -> bytes:
    if rng.random() < 0.3:
        return mutated(rng, good)
    columns = [f"{rng.choice(_LITERALS)} AS {rng.choice('abc')}" for _ in range(rng.choice((1, 2, 3)))]
    return f"SELECT {', '.join(columns)} FROM generate_series(1, {rng.choice((0, 1, 2))})".encode()


def _sql(data: bytes, rng: random.Random, folder: Path, *, url: str) -> object:
    from tango.cli.output import ListColumn, print_pieces
    from tango.cli.sql import _distinct
    from tango.store.arrow_rows import FORMATS, write_rows
    from tango.store.query import reading

    query = data.decode("utf-8", "replace")
    with reading(query, reader_url=url, database_url="", statement_timeout_s=0.5) as found:
        if rng.random() < 0.3:
            return write_rows(found, folder / f"rows{rng.choice(FORMATS)}")
        names, output = _distinct(found.columns), rng.choice(("csv", "json", "yaml", "table"))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            pieces = ([dict(zip(names, row, strict=True)) for row in piece] for piece in found.pieces(100))
            print_pieces(pieces, [ListColumn(name) for name in names], output)
    return json.loads(out.getvalue()) if output == "json" else None


# ---- checkpoints ----------------------------------------------------------------------------------------------------------


def _checkpoints() -> list[bytes]:
    from tango.learning.shipped import shipped_path

    return [shipped_path().read_bytes()]


def _odd_checkpoints() -> list[bytes]:
    """With values of other types, as a program that writes one may put them."""
    import torch

    from tango.learning.shipped import shipped_path

    shipped = shipped_path().read_bytes()
    held = torch.load(io.BytesIO(shipped), weights_only=True)
    odd = {"hidden": True, "weights": {}, "policy": 7, "trained": [], "feature_schema": None, "format_version": 1.0, "name": b"x"}
    found = []
    for key, value in odd.items():
        out = io.BytesIO()
        torch.save({**held, key: value}, out)
        found.append(out.getvalue())
    out = io.BytesIO()
    torch.save({**held, "weights": {name: weight.to(torch.int64) for name, weight in held["weights"].items()}}, out)
    return [*found, out.getvalue()]


def _changed_checkpoint(rng: random.Random, good: list[bytes]) -> bytes:
    """As they are now and then; else with the archive's checksums made right again, so that the reader gets to see what changed."""
    import zipfile

    whole = rng.choice(good)
    if rng.random() < 0.3:
        return mutated(rng, [whole]) if rng.random() < 0.7 else whole
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        chosen = rng.choice([name for name in old.namelist() if rng.random() < 0.5 or name.endswith("data.pkl")] or old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, mutated(rng, [content]) if name == chosen else content)
    return out.getvalue()


def _checkpoint(data: bytes, _rng: random.Random, folder: Path) -> object:
    from tango.learning.checkpoint import load_checkpoint

    path = folder / "checkpoint.pt"
    path.write_bytes(data)
    return load_checkpoint(path)


# ---- quantities and URLs --------------------------------------------------------------------------------------------------


def _quantities() -> list[bytes]:
    return [text.encode() for text in ("1500m", "0.5", "64Mi", "1e3", "-1", "2k", "100n", "1.5Gi", "12E", "1E3", ".5", "5.")]


def _quantity(data: bytes, rng: random.Random, _folder: Path) -> object:
    from tango.domain.quantities import canonical, cpu_millicores, extended_amounts, format_millicores, memory_mib, parse_quantity

    text = data.decode("utf-8", "replace")
    value: str | float | int = text
    with contextlib.suppress(ValueError, OverflowError):
        value = rng.choice((lambda: text, lambda: float(text), lambda: int(text)))()
    parse_quantity(value)
    canonical(canonical(value))
    extended_amounts({"example.com/x": value})
    return format_millicores(cpu_millicores(value)), memory_mib(value)


def _urls() -> list[bytes]:
    texts = (
        "postgresql://user:pa%40ss@host:5432/db?sslmode=require&options=-c%20x%3D1",
        "postgres://h1,h2:5433/db",
        "postgresql:///db?host=/run/sockets",
        "postgresql+psycopg2://u@[::1]:5432/db",
        "redis://:secret@host:6379/0",
        "rediss://user:secret@[::1]:6379/1?ssl_cert_reqs=none",
        "valkey://host",
        "unix:///run/valkey.sock?db=2",
        "amqp://u:p@host/vhost",
    )
    return [text.encode() for text in texts]


def _url(data: bytes, _rng: random.Random, _folder: Path) -> object:
    from tango.stack.broker_address import broker_address, redis_py_address, shown_broker
    from tango.store.addresses import described, libpq_url, own_options

    url = data.decode("utf-8", "replace")
    refused: list[TangoError] = []
    readers = (broker_address, shown_broker, redis_py_address, libpq_url, described, lambda of: own_options(of, "-c a=b"))
    for reader in readers:
        try:
            reader(url)
        except TangoError as error:
            refused.append(error)
    if len(refused) == len(readers):
        raise refused[0]
    return url


def doors(database_url: str) -> dict[str, Door]:
    """All doors by their names; results of SQL are read from this database."""
    return {
        "traces": Door(good=_traces, enter=_trace, changed=_changed_trace),
        "maps": Door(good=lambda: [text.encode() for text in _MAPS_OF_TABLE], enter=_mapped),
        "kubeconfigs": Door(good=_kubeconfigs, odd=_odd_kubeconfigs, enter=_kubeconfig),
        "fleets": Door(good=_fleets, enter=_fleet),
        "services": Door(good=_services, enter=_service),
        "tenants": Door(good=_tenants, enter=_tenant),
        "sql": Door(
            good=_queries, enter=lambda data, rng, folder: _sql(data, rng, folder, url=database_url), changed=_changed_query
        ),
        "checkpoints": Door(good=_checkpoints, odd=_odd_checkpoints, enter=_checkpoint, changed=_changed_checkpoint),
        "quantities": Door(good=_quantities, enter=_quantity, refusals=(ValueError,)),
        "urls": Door(good=_urls, odd=lambda: [b"sentinel://a;sentinel://b", b"http://[::1]:8080/a?x=1#f"], enter=_url),
    }
