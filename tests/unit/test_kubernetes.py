"""conf/kubernetes: legal objects that refer to one another, run the image of compose and name settings that exist.

No cluster is there: what an operator makes of them is not shown here (docs/deployment.md says how to see it).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.local.spark_kit import spark_defaults
from pipelines.settings import Settings
from pipelines.settings_load import known_environment_names, load_settings
from tests.unit.test_compose import DOCKERFILE, SERVICES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "conf" / "kubernetes"
API = "1.34"
"""Of Kubernetes: the oldest that the operator supports."""
SPARK, MONITOR = "spark.apache.org/v1", "monitoring.coreos.com/v1"
KINDS = {
    "ConfigMap": "v1", "Secret": "v1", "PersistentVolumeClaim": "v1", "Service": "v1",
    "NetworkPolicy": "networking.k8s.io/v1", "ServiceMonitor": MONITOR, "SparkApplication": SPARK,
    "StatefulSet": "apps/v1",
}  # fmt: skip
SPEC = {
    "pyFiles", "runtimeVersions", "applicationTolerations", "sparkConf", "driverSpec", "executorSpec", "driverArgs",
    "jars", "mainClass", "files", "deploymentMode", "configMapSpecs", "driverServiceIngressList", "proxyUser",
    "sparkRFiles", "driverHttpRouteList", "driverGrpcRouteList",
}  # fmt: skip
"""Fields of the operator's SparkApplication."""
SECRETS = PurePosixPath("/etc/gridwatch/secrets")
IMAGE_SOURCE = "/opt/gridwatch/source/"


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


OBJECTS: dict[tuple[str, str], dict[str, Any]] = {(one["kind"], one["metadata"]["name"]): one for one in documents()}
APPS = {name: one["spec"] for (kind, name), one in OBJECTS.items() if kind == "SparkApplication"}
JOBS = ("gridwatch-pipeline", "gridwatch-alerts")
ALERTS: dict[str, Any] = OBJECTS["StatefulSet", "gridwatch-alerts"]["spec"]
DATA: dict[str, str] = OBJECTS["ConfigMap", "gridwatch-settings"]["data"]


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template with its application's name and the role."""
    for name, spec in APPS.items():
        for role in ("driver", "executor"):
            if f"{role}Spec" in spec:
                yield f"{name}-{role}", spec[f"{role}Spec"]["podTemplateSpec"]
    yield "gridwatch-alerts", ALERTS["template"]


def template_of(job: str) -> dict[str, Any]:
    """The pod that does a job's own work."""
    found: dict[str, Any] = ALERTS["template"] if job not in APPS else APPS[job]["driverSpec"]["podTemplateSpec"]
    return found


def settings_of(job: str, tmp_path: Path) -> Settings:
    """The settings that a driver would see, its mounted secrets being files below `tmp_path`."""
    for key in OBJECTS["Secret", job]["stringData"]:
        (tmp_path / key).write_text(f"made-up value of {key}\n", encoding="utf-8")
    (container,) = template_of(job)["spec"]["containers"]
    given = DATA | {one["name"]: one["value"] for one in container["env"]}
    return load_settings(environment={n: v.replace(str(SECRETS), str(tmp_path)) for n, v in given.items()}).settings


def test_the_kinds_are_the_ones_we_know_and_names_are_used_once() -> None:
    found = list(documents())
    assert len(found) == len(OBJECTS)
    assert all(KINDS[one["kind"]] == one["apiVersion"] for one in found)
    assert {one["kind"] for one in found} == set(KINDS)
    assert set(APPS) == {"gridwatch-pipeline"}, "maintenance runs in its driver: a second writer would be refused"


@pytest.mark.parametrize("key", [key for key, one in OBJECTS.items() if one["apiVersion"] not in (SPARK, MONITOR)])
def test_kubernetes_own_objects_fit_its_schemas(key: tuple[str, str]) -> None:
    kubernetes_validate.validate(OBJECTS[key], API, strict=True)


@pytest.mark.parametrize(("name", "template"), list(templates()), ids=[name for name, _ in templates()])
def test_pod_templates_fit_the_schema_of_one(name: str, template: dict[str, Any]) -> None:
    whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
    kubernetes_validate.validate(whole, API, strict=True)


def test_the_schemas_would_find_a_misspelt_field() -> None:
    wrong = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "x"},
        "template": {"spec": {"container": []}},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, API, strict=True)


def test_applications_have_fields_of_the_operator_only_and_texts_for_spark() -> None:
    for spec in APPS.values():
        assert set(spec) <= SPEC
        assert all(isinstance(value, str) for value in spec["sparkConf"].values())
        assert f"pyspark=={spec['runtimeVersions']['sparkVersion']}" in (ROOT / "pyproject.toml").read_text()


def test_spark_is_set_as_everywhere_else() -> None:
    """But for the jars, which the image holds."""
    expected = {k: v for k, v in spark_defaults().items() if k not in ("spark.jars.packages", "spark.jars.excludes")}
    for spec in APPS.values():
        assert {name: spec["sparkConf"].get(name) for name in expected} == expected
        assert not {"spark.jars.packages", "spark.jars"} & set(spec["sparkConf"])


def test_images_are_that_of_compose_and_what_is_named_lies_in_it() -> None:
    image = SERVICES["pipeline"]["image"]
    assert {spec["sparkConf"]["spark.kubernetes.container.image"] for spec in APPS.values()} == {image}
    assert {container["image"] for container in ALERTS["template"]["spec"]["containers"]} == {image}
    assert f"WORKDIR {IMAGE_SOURCE.rstrip('/')}" in DOCKERFILE
    for spec in APPS.values():
        conf = spec["sparkConf"]
        named = [spec["pyFiles"].removeprefix("local://"), conf["spark.scheduler.allocation.file"]]
        assert all((ROOT / name.removeprefix(IMAGE_SOURCE)).is_file() for name in named)
        assert {conf[f"spark.{role}.extraClassPath"] for role in ("driver", "executor")} == {
            "/opt/gridwatch/cache/ivy-spark/jars/*"
        }


def test_settings_exist_and_secrets_are_files_of_secrets_alone(tmp_path: Path) -> None:
    assert set(DATA) <= known_environment_names()
    secret_like = [n for n in DATA if n.endswith(("_KEY", "PASSWORD", "TOKEN")) or "WEBHOOK" in n]
    assert not secret_like
    for job in JOBS:
        settings = settings_of(job, tmp_path)
        assert settings.store.secret_key is not None
        assert settings.store.secret_key.get_secret_value() == "made-up value of store-secret-key"
        assert settings.kafka.security_protocol == "SASL_SSL"
        secret = OBJECTS["Secret", job]["stringData"]
        assert {PurePosixPath(v).name for v in DATA.values() if v.startswith(str(SECRETS))} == set(secret)
        assert not any(secret.values()), "a template holds no secret"


def test_what_a_pod_refers_to_is_there() -> None:
    for name, template in templates():
        spec = template["spec"]
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in OBJECTS, name
            else:
                assert ("Secret", volume["secret"]["secretName"]) in OBJECTS, name
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}, name
        sources = [one for container in spec["containers"] for one in container.get("envFrom", [])]
        assert all(("ConfigMap", one["configMapRef"]["name"]) in OBJECTS for one in sources), name


def test_drivers_and_executors_have_the_checkpoint_at_its_place_on_a_shared_volume() -> None:
    for name, template in ((n, t) for n, t in templates() if n != "gridwatch-alerts"):
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts[DATA["GRIDWATCH_PIPELINE__CHECKPOINT"]] == "checkpoint", name
    claim = OBJECTS["PersistentVolumeClaim", "gridwatch-checkpoint"]["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]


def test_every_pod_has_its_size() -> None:
    for name, spec in APPS.items():
        conf = spec["sparkConf"]
        roles = ["driver"] + ["executor"] * ("executorSpec" in spec)
        for role in roles:
            wanted = {f"spark.{role}.memory", *(f"spark.kubernetes.{role}.{one}.cores" for one in ("request", "limit"))}
            assert wanted <= set(conf), name
    pipeline = APPS["gridwatch-pipeline"]["sparkConf"]
    assert (pipeline["spark.executor.instances"], pipeline["spark.executor.cores"]) == ("2", "2")


def test_pods_are_no_root_and_are_started_by_our_own_program() -> None:
    for name, template in templates():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert f"--uid {spec['securityContext']['runAsUser']}" in DOCKERFILE
        (container,) = spec["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        program = ["pipelines", "alerts"] if name == "gridwatch-alerts" else ["pipelines.local.pod"]
        assert container["command"] == ["python", "-m", *program]


def test_alerts_keep_their_names_and_are_as_many_as_have_partitions() -> None:
    assert ALERTS["serviceName"] == OBJECTS["Service", "gridwatch-alerts"]["metadata"]["name"]
    assert OBJECTS["Service", "gridwatch-alerts"]["spec"]["clusterIP"] == "None"
    assert 1 < ALERTS["replicas"] <= int(DATA["GRIDWATCH_KAFKA__PARTITIONS"])
    assert ALERTS["selector"]["matchLabels"] == ALERTS["template"]["metadata"]["labels"]
    assert DATA["GRIDWATCH_ALERTS__WITH_PIPELINE"] == "false", "the driver would start one more"


def test_services_find_the_drivers_at_the_ports_they_serve(tmp_path: Path) -> None:
    metrics = settings_of(JOBS[0], tmp_path).metrics
    assert metrics.host == "0.0.0.0"
    for job, port in zip(JOBS, (metrics.port, metrics.alerts_port), strict=True):
        service = OBJECTS["Service", job]
        template = template_of(job)
        role = {"spark-role": "driver"} if job in APPS else {}  # Spark adds that one
        labels = template["metadata"]["labels"] | role
        assert service["spec"]["selector"] == labels
        assert [one["targetPort"] for one in service["spec"]["ports"]] == [port]
        assert [one["containerPort"] for one in template["spec"]["containers"][0]["ports"]] == [port]
    monitor = OBJECTS["ServiceMonitor", "gridwatch"]["spec"]
    assert all(
        monitor["selector"]["matchLabels"].items() <= OBJECTS["Service", job]["metadata"]["labels"].items()
        for job in JOBS
    )
    assert {one["port"] for one in monitor["endpoints"]} == {"metrics"}


def test_the_network_policy_is_about_our_pods_and_lets_the_metrics_be_read(tmp_path: Path) -> None:
    policy = OBJECTS["NetworkPolicy", "gridwatch"]["spec"]
    chosen = policy["podSelector"]["matchLabels"].items()
    assert all(chosen <= template["metadata"]["labels"].items() for _, template in templates())
    metrics = settings_of(JOBS[0], tmp_path).metrics
    assert [one["port"] for one in policy["ingress"][1]["ports"]] == [metrics.port, metrics.alerts_port]
