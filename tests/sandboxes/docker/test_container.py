"""What is requested of the engine: one test for each promise that a container keeps."""

import json
from typing import Any

import pytest

from codex_server.limits import Limits
from codex_server.sandboxes.docker.container import (
    INSTANCE_LABEL,
    OWN_MEMORY_BYTES,
    OWNER_LABEL,
    TASKS_OF_INIT,
    ContainerPlan,
    WorkspaceMount,
    container_config,
)
from codex_server.sandboxes.seccomp.compiler import docker_profile
from codex_server.sandboxes.seccomp.policy import CONTAINER

MIB = 2**20
PROFILE = docker_profile(CONTAINER)


def config(runtime: str | None = None, workspace: WorkspaceMount | None = None) -> dict[str, Any]:
    plan = ContainerPlan(
        image="codex-runner-python:1",
        uid=10_007,
        owner="own",
        instance="inst",
        ceilings=Limits(memory_bytes=100 * MIB, processes=40),
        workspace_bytes=64 * MIB,
        shm_bytes=100 * MIB,
        seccomp=PROFILE,
        runtime=runtime,
        workspace=workspace,
    )
    return container_config(plan)


HOST = config()["HostConfig"]


def test_it_has_no_network():
    assert config()["NetworkDisabled"] is True
    assert HOST["NetworkMode"] == "none"
    assert not {"PortBindings", "Links", "ExtraHosts", "Dns", "PublishAllPorts"} & set(HOST)


def test_it_has_no_capability_and_gains_no_privilege():
    assert HOST["CapDrop"] == ["ALL"]
    assert "CapAdd" not in HOST
    assert HOST["Privileged"] is False
    assert "no-new-privileges" in HOST["SecurityOpt"]


def test_its_processes_are_not_roots():
    assert config()["User"] == "10007:10007"
    assert "GroupAdd" not in HOST


def test_its_root_is_read_only_and_no_folder_of_the_host_is_in_it():
    assert HOST["ReadonlyRootfs"] is True
    assert not {"Binds", "Mounts", "VolumesFrom", "Devices", "DeviceRequests"} & set(HOST)
    assert "Volumes" not in config()


def test_a_named_workspace_is_that_folder_alone_and_its_sessions_have_the_owners_id():
    asked = config(workspace=WorkspaceMount("/srv/notes", read_only=False, owner=(1000, 100), processes=12))
    host = asked["HostConfig"]
    assert asked["User"] == "1000:100"
    assert host["PidsLimit"] == HOST["PidsLimit"] - 40 + 12
    assert host["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/srv/notes",
            "Target": "/workspace",
            "ReadOnly": False,
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }
    ]
    assert "/workspace" not in host["Tmpfs"]
    beside = {key: value for key, value in host.items() if key not in ("Mounts", "Tmpfs", "PidsLimit")}
    assert beside == {key: HOST[key] for key in beside}


def test_a_read_only_folder_of_roots_is_read_by_an_id_of_the_containers_own():
    asked = config(workspace=WorkspaceMount("/srv/data", read_only=True, owner=None, processes=12))
    assert asked["User"] == "10007:10007"
    assert asked["HostConfig"]["Mounts"][0]["ReadOnly"] is True


def test_nothing_of_the_base_image_runs_beside_the_program():
    assert config()["Healthcheck"] == {"Test": ["NONE"]}


def test_it_shares_no_namespace_with_the_host_or_another_container():
    assert HOST["IpcMode"] == "private"
    assert HOST["CgroupnsMode"] == "private"
    assert not {"PidMode", "UTSMode", "UsernsMode"} & set(HOST)


def test_its_memory_is_the_ceiling_with_inits_own_and_no_swap_beside_it():
    assert HOST["Memory"] == HOST["MemorySwap"] == 100 * MIB + OWN_MEMORY_BYTES
    assert not HOST.get("OomKillDisable")


def test_its_processes_are_bounded_a_little_above_the_programs():
    assert 40 + TASKS_OF_INIT < HOST["PidsLimit"] <= 40 + TASKS_OF_INIT + 10


def test_only_the_workspace_tmp_and_shared_memory_are_writable_in_memory_and_bounded():
    assert set(HOST["Tmpfs"]) == {"/workspace", "/tmp", "/dev/shm"}
    sizes = {"/workspace": 64 * MIB, "/tmp": 64 * MIB, "/dev/shm": 100 * MIB}  # shared memory: as all memory
    for folder, options in HOST["Tmpfs"].items():
        assert {"rw", "nosuid", "nodev", f"size={sizes[folder]}"} <= set(options.split(","))
        assert any(option.startswith("nr_inodes=") for option in options.split(","))
    assert {"uid=10007", "gid=10007", "mode=755"} <= set(HOST["Tmpfs"]["/workspace"].split(","))


def test_its_labels_report_whose_it_is():
    assert config()["Labels"] == {OWNER_LABEL: "own", INSTANCE_LABEL: "inst"}


def test_nothing_that_it_prints_is_kept_on_the_hosts_disk():
    assert HOST["LogConfig"] == {"Type": "none"}


def test_its_system_calls_are_filtered_by_the_table_in_json():
    (profile,) = [option for option in HOST["SecurityOpt"] if option.startswith("seccomp=")]
    assert json.loads(profile.removeprefix("seccomp=")) == PROFILE


def test_what_proc_and_sys_report_of_the_host_is_masked():
    assert {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/cmdline", "/sys/firmware"} <= set(
        HOST["MaskedPaths"]
    )
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= set(HOST["ReadonlyPaths"])


def test_it_ends_with_the_servers_end_of_the_stream_and_is_never_started_again():
    requested = config()
    assert requested["OpenStdin"] is requested["StdinOnce"] is requested["AttachStdin"] is True
    assert requested["Tty"] is False
    assert HOST["RestartPolicy"] == {"Name": "no"}


def test_an_engine_that_is_stopped_does_not_wait_for_it():
    assert config()["StopSignal"] == "SIGKILL"


def test_it_dies_for_memory_before_the_engine_does():
    assert HOST["OomScoreAdj"] > 0


def test_no_variable_and_no_command_is_handed_to_it():
    assert not {"Env", "Cmd", "Entrypoint"} & set(config())


@pytest.mark.parametrize("runtime", ["runsc", "kata"])
def test_a_runtime_is_named_when_it_is_requested(runtime):
    assert config(runtime)["HostConfig"] == HOST | {"Runtime": runtime}


def test_without_one_the_engines_own_is_taken():
    assert "Runtime" not in HOST


def test_it_is_a_body_that_json_can_carry():
    assert json.loads(json.dumps(config())) == config()
