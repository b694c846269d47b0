from pathlib import Path

import pytest
from pydantic import ValidationError

from codex_server.errors import SettingsInvalid
from codex_server.limits import Limits
from codex_server.settings import Settings, default_state_dir, load_settings


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_has_a_description_and_a_default_that_is_valid() -> None:
    Settings()
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_flags_win_over_the_environment_and_that_over_the_file(
    an_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (an_empty_folder / "codex.toml").write_text("port = 1\nqueue_length = 1\nmax_timeout = 20\n")
    monkeypatch.setenv("CODEX_PORT", "2")
    monkeypatch.setenv("CODEX_QUEUE_LENGTH", "2")
    settings = load_settings({"port": 3})
    assert (settings.port, settings.queue_length, settings.max_timeout) == (3, 2, 20)


def test_sizes_and_pools_are_written_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_MAX_MEMORY", "1 GiB")
    monkeypatch.setenv("CODEX_POOL_SIZES", "python=8, javascript=0")
    settings = load_settings()
    assert settings.max_memory == 2**30
    assert settings.pool_sizes == {"python": 8, "javascript": 0}


def test_pools_may_be_a_table_in_the_file(an_empty_folder: Path) -> None:
    (an_empty_folder / "codex.toml").write_text("[pool_sizes]\npython = 1\n")
    assert load_settings().pool_sizes == {"python": 1}


def test_one_message_names_every_setting_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_PORT", "99999")
    monkeypatch.setenv("CODEX_MAX_MEMORY", "lots")
    monkeypatch.setenv("CODEX_RATE_LIMIT", "often")
    monkeypatch.setenv("CODEX_POOL_SIZES", "python")
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    for name in ("CODEX_PORT", "CODEX_MAX_MEMORY", "CODEX_RATE_LIMIT", "CODEX_POOL_SIZES"):
        assert name in str(refusal.value)
    assert "64MiB" in str(refusal.value)
    assert "60/minute" in str(refusal.value)


def test_a_wrong_value_is_blamed_on_where_it_comes_from(an_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (an_empty_folder / "codex.toml").write_text('port = 1\nbackend = "podman"\nqueue_seconds = 0\n')
    monkeypatch.setenv("codex_port", "http")
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings({"max_processes": 0, "save_figures": "perhaps", "pool_sizes": {"python": "x"}})
    assert refusal.value.detail.splitlines()[1:] == [
        "  CODEX_PORT=http: it must be a whole number",
        "  codex.toml, backend: it must be 'auto', 'embedded' or 'docker'",
        "  --set save_figures=perhaps: it must be true or false",
        "  codex.toml, queue_seconds: it must be above 0",
        "  --set pool_sizes: python: it must be a whole number",
        "  --set max_processes=0: it must be at least 1",
    ]


def test_an_unknown_key_in_the_file_is_refused(an_empty_folder: Path) -> None:
    (an_empty_folder / "codex.toml").write_text("prot = 1\n")
    with pytest.raises(SettingsInvalid, match=r"codex\.toml, prot: there is no such setting; did you mean port\?"):
        load_settings()


def test_a_file_that_is_no_toml_is_named(an_empty_folder: Path) -> None:
    (an_empty_folder / "codex.toml").write_text("port = = 1\n")
    with pytest.raises(SettingsInvalid, match=r"codex\.toml cannot be read"):
        load_settings()


def test_a_short_token_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_API_TOKEN", "hunter2")
    with pytest.raises(SettingsInvalid, match="at least 16") as refusal:
        load_settings()
    assert "hunter2" not in str(refusal.value)


def test_a_token_is_masked_wherever_settings_are_shown() -> None:
    settings = Settings(api_token="a-token-that-is-long-enough")  # type: ignore[arg-type]
    assert "long-enough" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_auth_is_refused_wherever_others_can_reach(host: str) -> None:
    with pytest.raises(SettingsInvalid, match="would let anyone who reaches this machine run code"):
        load_settings({"host": host, "allow_no_auth": True})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_no_auth_is_possible_on_loopback(host: str) -> None:
    assert load_settings({"host": host, "allow_no_auth": True}).allow_no_auth


def test_the_default_timeout_is_never_above_the_largest_unless_somebody_says_so() -> None:
    assert load_settings({"max_timeout": 5}).default_timeout == 5
    assert load_settings({"max_timeout": "60"}).default_timeout == 10


def test_the_largest_file_is_by_default_as_large_as_the_workspace() -> None:
    assert load_settings().ceilings.file_bytes == load_settings().max_workspace == Limits().file_bytes
    assert load_settings({"max_workspace": "1GiB"}).max_file_size == 2**30
    assert load_settings({"max_workspace": "1GiB", "max_file_size": "1MiB"}).max_file_size == 2**20


def test_a_default_timeout_above_the_largest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_DEFAULT_TIMEOUT", "10")
    with pytest.raises(SettingsInvalid, match=r"_DEFAULT_TIMEOUT.*: 10 is above CODEX_MAX_TIMEOUT \(5\): lower"):
        load_settings({"max_timeout": 5})


def test_a_largest_timeout_that_is_no_number_is_the_only_thing_blamed() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings({"max_timeout": "long"})
    assert "default_timeout" not in str(refusal.value).lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrency": 0},
        {"queue_length": -1},
        {"queue_seconds": 0},
        {"pool_sizes": "python=257"},
        {"backend": "x"},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsInvalid, match=next(iter(wrong))):
        load_settings(wrong)


@pytest.mark.parametrize("wrong", ["code.example.org", "foo", "ftp://code.example.org", "https://", "https://a b"])
def test_a_public_address_that_nobody_can_call_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings({"public_url": wrong})
    assert f"{wrong!r} is not an address; write it with https://, such as https://code.example.org" in str(
        refusal.value
    )


@pytest.mark.parametrize("right", ["https://code.example.org", "http://[::1]:8000/", "https://example.org/codex", ""])
def test_a_public_address_is_an_http_one(right: str) -> None:
    assert load_settings({"public_url": right}).public_url == right


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_the_ceilings_are_the_settings() -> None:
    ceilings = Settings(max_timeout=20, max_memory=2**26, max_processes=3).ceilings
    assert (ceilings.wall_seconds, ceilings.memory_bytes, ceilings.processes) == (20, 2**26, 3)


def test_the_state_lives_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_state_dir() == Path("/somewhere/codex-server")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_state_dir() == Path("/home/ada/.local/state/codex-server")


def test_a_token_from_outside_has_sixteen_characters_at_the_least():
    assert Settings(api_token="x" * 16).api_token
    with pytest.raises(ValidationError, match="a token needs at least 16 characters"):
        Settings(api_token="x" * 15)


def test_trusted_proxies_are_addresses_and_networks_and_nobody_by_default():
    assert Settings().trusted_networks == ()
    found = Settings(trusted_proxies="127.0.0.1, 10.0.0.0/8,::1").trusted_networks
    assert [str(network) for network in found] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]
    for wrong in ("*", "proxy.example.org", "10.0.0.1/8"):
        with pytest.raises(ValueError, match=r"such as 127\.0\.0\.1,10\.0\.0\.0/8"):
            Settings(trusted_proxies=wrong)


@pytest.mark.parametrize("host", ["::1", "[::1]", " [::1] "])
def test_an_address_may_stand_in_brackets_as_in_a_url(host: str) -> None:
    assert load_settings({"host": host, "allow_no_auth": True}).host == "::1"


@pytest.mark.parametrize(
    "written",
    [
        "{}\n",
        "\ufeff{}",
        " {}\r\n",
        '"{}"',
        "'{}'",
        "Bearer {}",
        "bearer\t{}",
        "Bearer Bearer {}",
        '"Bearer {}"',
        "`{}`",
    ],
)
def test_a_token_is_the_same_however_it_was_copied(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "a-token-that-is-long-enough"
    monkeypatch.setenv("CODEX_API_TOKEN", written.format(token))
    settings = load_settings()
    assert settings.api_token and settings.api_token.get_secret_value() == token
    monkeypatch.setenv("CODEX_API_TOKEN", written.format("x" * 15))
    with pytest.raises(SettingsInvalid, match="at least 16"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "told"),
    [("port = 1".encode("utf-16"), "UTF-16"), (b"port = 1 # \xe9", "byte 11 is 0xe9"), (b"\xef\xbb\xbfport = 1", None)],
)
def test_a_file_in_another_encoding_is_named_for_what_it_is(an_empty_folder: Path, content: bytes, told: str) -> None:
    (an_empty_folder / "codex.toml").write_bytes(content)
    if told is None:
        assert load_settings().port == 1
    else:
        with pytest.raises(SettingsInvalid, match=told):
            load_settings()


def test_workspaces_are_pairs_of_name_and_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEX_WORKSPACES", "notes=~/notes, data=/srv/data:ro")
    folders = load_settings().workspace_folders
    assert {name: (str(each.folder), each.read_only) for name, each in folders.items()} == {
        "notes": (f"{tmp_path}/notes", False),
        "data": ("/srv/data", True),
    }


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("notes", "has no folder"),
        ("notes=", "not an absolute path"),
        ("notes=relative", "not an absolute path"),
        ("Notes=/srv", "cannot be a workspace's name"),
        ("a/b=/srv", "cannot be a workspace's name"),
        ("all=/", "could read tokens"),
    ],
)
def test_workspaces_that_cannot_be_are_explained(monkeypatch, written, message):
    monkeypatch.setenv("CODEX_WORKSPACES", written)
    with pytest.raises(SettingsInvalid, match=message):
        load_settings()
