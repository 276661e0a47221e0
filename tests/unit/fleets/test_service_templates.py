"""Service documents with a pod template."""

from __future__ import annotations

from pathlib import Path

import pytest

from tango.domain.services import Service, ServiceClass
from tango.errors import ConfigError
from tango.fleets import dump_services, load_services
from tango.fleets.declarations import _SERVICE_READERS
from tango.fleets.templates import _AS_DECLARED, NOT_BESIDE

HEAD = """\
apiVersion: tango.dev/v1
kind: Service
metadata: {name: my-api}
spec:
  class: lc
  target_ms: 200
"""
TEMPLATE = """\
  template:
    metadata:
      creationTimestamp: null
    spec:
      containers:
      - name: api
        image: my-api:1
        ports: [{containerPort: 8081}]
        env:
        - {name: SINCE, value: "2024-01-01"}
"""


def _one(tmp_path: Path, text: str) -> Service:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    (service,) = load_services(path)
    return service


def test_a_template_alone_is_a_service(tmp_path: Path) -> None:
    """Port and image are the template's; what nobody knows is assumed, and said to be."""
    service = _one(tmp_path, HEAD + TEMPLATE)

    assert (service.service_class, service.image, service.port, service.container) == (ServiceClass.LC, "my-api:1", 8081, "api")
    assert (service.instance_memory_mib, service.concurrency) == (512, 8)
    assert service.assumed == ("cpu_work_s", "instance_memory_mib", "memory_mib")
    assert "creationTimestamp" not in service.template


def test_sizes_of_the_template_are_the_service_s(tmp_path: Path) -> None:
    """What the template says is not said again, and what it leaves open is declared beside it."""
    resources = "        resources: {requests: {cpu: 1500m, memory: 1Gi}, limits: {memory: 2Gi}}\n"
    service = _one(tmp_path, HEAD + "  memory_mib: 256\n  cpu_work_s: 0.2\n" + TEMPLATE + resources)

    assert (service.cpu_request_millicores, service.cpu_limit_millicores) == (1500, 3000)
    assert (service.instance_memory_mib, service.memory_mib, service.pod_requests) == (2048, 256, (1500, 1024))
    assert service.assumed == ()


def test_services_with_templates_read_back_equal(tmp_path: Path) -> None:
    """dump and load are inverse, guesses included."""
    service = _one(tmp_path, HEAD + "  allowLiteral: [CSRF_TOKEN]\n" + TEMPLATE + "        - {name: CSRF_TOKEN, value: demo}\n")

    assert service.allow_literal == ("CSRF_TOKEN",)
    assert _one(tmp_path, dump_services([service])) == service


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "        command: [sleep, 10]\n",
            r"service.yaml:17: spec.template.spec.containers\[0\].command\[1\] is 10, expected a text",
        ),
        (
            "        volumeMounts: [{name: dat, mountPath: /d}]\n      volumes: [{name: data, emptyDir: {}}]\n",
            r"service.yaml:17: .*\.volumeMounts\[0\]\.name is 'dat', expected the name of a volume \(did you mean 'data'\?\)",
        ),
        ("        volumeDevices: [{devicePath: /d}]\n", r"volumeDevices\[0\]\.name is missing, .*; spec.volumes has none"),
        ("      nodeName: n1\n", r"service.yaml:17: spec.template.spec.nodeName is 'n1', expected none"),
        ("  image: other:1\n", r"service.yaml:17: spec.image is 'other:1', expected nothing beside a template"),
        ("  container: web\n", r"spec.template.spec.containers is without 'web'"),
        (
            "        - {name: API_KEY, value: hunter2}\n",
            r"env\[1\].value is a literal value of 'API_KEY', which looks like a secret",
        ),
        (
            "        resources: {limits: {cpu: 2}}\n  cpu_limit_millicores: 500\n",
            r"is 500, expected 2000, the template's limits.cpu",
        ),
    ],
)
def test_refusals_have_the_line_of_the_field(tmp_path: Path, more: str, told: str) -> None:
    """File, line, path, found, expected."""
    with pytest.raises(ConfigError, match=told) as refused:
        _one(tmp_path, HEAD + TEMPLATE + more)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("pods", [TEMPLATE, "  cpu_work_s: 0.1\n  memory_mib: 64\n  instance_memory_mib: 64\n"])
def test_an_unknown_key_lists_each_known_one_once(tmp_path: Path, pods: str) -> None:
    """Also those that come in place of others."""
    with pytest.raises(ConfigError, match=r"spec\.targets is an unknown key") as refused:
        _one(tmp_path, HEAD + "  targets: 5\n" + pods)

    known = str(refused.value).partition("expected one of: ")[2].split(", ")
    assert sorted(set(known)) == known
    assert {"adopt", "template", "target_ms"} <= set(known)


def test_a_service_that_answers_nowhere_is_refused(tmp_path: Path) -> None:
    """An LC instance needs a port."""
    with pytest.raises(ConfigError, match=r"spec.port is missing, expected the port at which container 'api' answers"):
        _one(tmp_path, HEAD + TEMPLATE.replace("        ports: [{containerPort: 8081}]\n", ""))


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    """Nine lines that stand for a thousand million values."""
    bomb = "  template:\n    a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"    a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9))
    with pytest.raises(ConfigError, match=r"spec.template is larger, expected at most 20000 values"):
        _one(tmp_path, HEAD + bomb)


ADOPTS = HEAD + "  adopt: {namespace: prod, selector: {app: my-api, tier: web}, port: 8081}\n"


def test_a_service_can_adopt_pods_of_somebody_else(tmp_path: Path) -> None:
    """Labels become a selector; figures that nobody knows are assumed; what is dumped reads back equal."""
    service = _one(tmp_path, ADOPTS)

    assert service.adopt is not None
    assert (service.adopt.namespace, service.adopt.selector, service.port) == ("prod", "app=my-api,tier=web", 8081)
    assert not service.resizable
    assert service.assumed == ("cpu_work_s", "instance_memory_mib", "memory_mib")
    assert _one(tmp_path, dump_services([service])) == service


def test_a_selector_may_be_a_text_as_for_kubectl(tmp_path: Path) -> None:
    """With a resize the limit that pods have must be declared, since it is what moves."""
    text = ADOPTS.replace("{app: my-api, tier: web}", '"app in (a, b), !canary"').replace("8081}", "8081, resize: true}")
    with pytest.raises(ConfigError, match=r"spec.cpu_limit_millicores is missing, expected the CPU limit that a pod has"):
        _one(tmp_path, text)

    service = _one(tmp_path, text + "  cpu_limit_millicores: 2000\n")

    assert service.adopt is not None
    assert service.adopt.selector == "app in (a, b), !canary"
    assert service.resizable
    assert _one(tmp_path, dump_services([service])) == service


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{app: my-api, tier: web}", "{}", "spec.adopt.selector is a mapping, expected a label selector"),
        ("selector: {app: my-api, tier: web}, ", "", "spec.adopt.selector is missing, expected a label selector"),
        ("{app: my-api, tier: web}", "'app ~ x'", "spec.adopt.selector is 'app ~ x', expected"),
        ("{app: my-api, tier: web}", "{app: 1}", "spec.adopt.selector.app is 1, expected labels with texts"),
        (", port: 8081", "", "spec.adopt.port is missing"),
        ("namespace: prod, ", "", "spec.adopt.namespace is missing"),
        ("8081}", "8081}\n  image: x", "spec.image is 'x', expected nothing beside adopt"),
        ("class: lc\n  target_ms: 200", "class: be", "spec.adopt is given, expected class lc beside it"),
        ("port: 8081", "port: 8081, resize: maybe", "spec.adopt.resize is 'maybe', expected true or false"),
    ],
)
def test_an_adoption_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    """File, line, key, found, expected."""
    with pytest.raises(ConfigError, match=told):
        _one(tmp_path, ADOPTS.replace(old, new))


@pytest.mark.parametrize(
    ("field", "of", "value"),
    [
        ("never_evict", "be", True),
        ("never_resize", "lc", True),
        ("namespace", "be", "team-a"),
        ("startup_cpu_limit_millicores", "lc", 4000),
    ],
)
def test_what_a_template_says_nothing_of_is_as_declared(tmp_path: Path, field: str, of: str, value: object) -> None:
    """It is not read and then forgotten."""
    head = HEAD if of == "lc" else HEAD.replace("class: lc", "class: be").replace("  target_ms: 200\n", "")
    service = _one(tmp_path, f"{head}  {field}: {str(value).lower()}\n{TEMPLATE}")

    assert getattr(service, field) == value
    assert _one(tmp_path, dump_services([service])) == service


def test_no_key_beside_a_template_is_read_and_then_dropped(tmp_path: Path) -> None:
    """Each key of the short form is a figure of the template, stands as declared, or is refused."""
    of_figures = {
        *("port", "cpu_work_s", "memory_mib", "instance_memory_mib", "cpu_request_millicores", "cpu_limit_millicores"),
    }

    assert set(_SERVICE_READERS) == of_figures | set(_AS_DECLARED) | set(NOT_BESIDE)


@pytest.mark.parametrize(
    "pods",
    [
        "template: {spec: {containers: [{name: a, image: a, ports: [{containerPort: 80}]}]}}",
        "adopt: {namespace: prod, selector: {app: a}, port: 80}",
    ],
)
def test_a_service_of_its_own_pods_or_adopted_ones_may_preserve_the_host(tmp_path: Path, pods: str) -> None:
    """Written out, and read again; the synthetic workload does not look at it."""
    text = f"""
apiVersion: tango/v1
kind: Service
metadata: {{name: api}}
spec: {{class: lc, target_ms: 200, preserve_host: true, {pods}}}
"""
    service = _one(tmp_path, text)

    assert service.preserve_host
    assert _one(tmp_path, dump_services([service])) == service
    with pytest.raises(ConfigError, match="preserve_host is True, expected false: only instances of a template or adopted ones"):
        _one(tmp_path, text.replace(pods, "cpu_work_s: 1, memory_mib: 1, instance_memory_mib: 8"))
