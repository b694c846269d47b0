from pathlib import Path

import pytest

from codex_server.cli.flags import gather_flags, settings_from_flags
from codex_server.errors import SettingsInvalid


@pytest.mark.parametrize("spelling", ["max_timeout", "max-timeout", "CODEX_MAX_TIMEOUT", "Max_Timeout"])
def test_set_takes_a_setting_by_any_of_its_spellings(spelling: str):
    assert gather_flags([f"{spelling}=60"]) == {"max_timeout": "60"}


def test_a_named_flag_wins_over_set_and_one_that_was_not_given_is_left_out():
    assert gather_flags(["port=1", "host=::1"], port=2, host=None) == {"port": 2, "host": "::1"}


def test_a_value_may_itself_hold_equals_signs():
    flags = gather_flags(["pool_sizes=python=3,javascript=1"])
    assert settings_from_flags(flags).pool_sizes == {"python": 3, "javascript": 1}


def test_an_unknown_setting_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsInvalid, match=r"no setting 'max_timeuot'; did you mean max_timeout\?"):
        gather_flags(["max_timeuot=60"])


def test_a_setting_without_a_value_is_refused_with_the_way_to_write_it():
    with pytest.raises(SettingsInvalid, match="write --set NAME=VALUE"):
        gather_flags(["max_timeout"])


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CODEX_PORT", "1234")
    assert settings_from_flags(gather_flags(None)).port == 1234
    assert settings_from_flags(gather_flags(["port=4321"], state_dir=tmp_path)).port == 4321


def test_a_wrong_value_is_blamed_on_the_flag_that_brought_it():
    with pytest.raises(SettingsInvalid) as refusal:
        settings_from_flags(gather_flags(["max_memory=1MiB"], port=80000, api_token="short"))
    assert refusal.value.detail.splitlines()[1:] == [
        "  --port 80000: it must be at most 65535",
        "  --token: a token needs at least 16 characters; leave it unset and the first start makes one",
        "  --set max_memory=1MiB: it must be at least 16MiB",
    ]
