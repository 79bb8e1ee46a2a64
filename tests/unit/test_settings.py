from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import rindle
from rindle.errors import ConfigurationError
from rindle.settings import Settings, StateSettings, load_settings, load_state_settings, parse_duration, spell_duration
from rindle.uploads.options import DEFAULT_OPTIONS

WriteConfig = Callable[[str], Path]


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    def write(text: str) -> Path:
        path = tmp_path / "rindle.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestPrecedence:
    def test_defaults(self) -> None:
        settings = load_settings({})
        assert (settings.host, settings.port, settings.path) == ("127.0.0.1", 8080, "/files")
        assert settings.store_url == f"file://{Path.cwd()}/rindle-data/objects"
        assert settings.database_url == f"sqlite:///{Path.cwd()}/rindle-data/rindle.db"
        assert settings.tails_folder == Path("rindle-data/tails")
        assert settings.expires_in == timedelta(days=1)

    def test_the_engines_defaults_are_its_own(self) -> None:
        settings = Settings()
        assert settings.part_size == DEFAULT_OPTIONS.part_size
        assert settings.max_size == DEFAULT_OPTIONS.max_size
        assert settings.memory_budget == DEFAULT_OPTIONS.memory_budget
        assert settings.idle_timeout == DEFAULT_OPTIONS.pace.idle_timeout
        assert settings.lease_ttl == DEFAULT_OPTIONS.leases.ttl

    def test_a_file_wins_over_a_default(self, write_config: WriteConfig) -> None:
        settings = load_settings({}, config=write_config("port = 1\nhost = '::1'"))
        assert (settings.port, settings.host) == (1, "::1")

    def test_the_environment_wins_over_the_file(
        self, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RINDLE_PORT", "2")
        settings = load_settings({}, config=write_config("port = 1\nhost = '::1'"))
        assert (settings.port, settings.host) == (2, "::1")

    def test_a_flag_wins_over_all(self, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_PORT", "2")
        monkeypatch.setenv("RINDLE_HOST", "127.0.0.2")
        settings = load_settings({"port": "3"}, config=write_config("port = 1\nhost = '::1'\npath = '/up'"))
        assert (settings.port, settings.host, settings.path) == (3, "127.0.0.2", "/up")

    def test_the_environment_names_the_file(self, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_CONFIG", str(write_config("port = 1")))
        assert load_settings({}).port == 1

    def test_a_flag_names_another_file(
        self, write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RINDLE_CONFIG", str(tmp_path / "nowhere.toml"))
        assert load_settings({}, config=write_config("port = 1")).port == 1

    def test_an_app_made_without_settings_reads_them_as_the_command_does(
        self, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RINDLE_CONFIG", str(write_config("path = '/from-file'")))
        assert rindle.create_app().path == "/from-file"
        monkeypatch.setenv("RINDLE_PTH", "/up")
        with pytest.raises(ConfigurationError, match="did you mean RINDLE_PATH"):
            rindle.create_app()


class TestFiles:
    def test_every_kind_of_value(self, write_config: WriteConfig) -> None:
        config = write_config("""
            port = 1
            data = "/dätä"
            max_size = "2GiB"
            part_size = 6_000_000
            idle_timeout = 1.5
            expires_in = "never"
            cors_origins = ["https://a.example", "https://b.example"]
            cors_credentials = true
        """)
        settings = load_settings({}, config=config)
        assert settings.data == Path("/dätä")
        assert (settings.max_size, settings.part_size) == (2 << 30, 6_000_000)
        assert settings.idle_timeout == timedelta(seconds=1.5)
        assert settings.expires_in is None
        assert settings.cors_origins == ("https://a.example", "https://b.example")
        assert settings.cors_credentials is True

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("port = 1\nhost = nobody", "is not TOML: Invalid value .at line 2"),
            ("prt = 1", "unknown setting prt in the settings file .*rindle.toml; did you mean port?"),
            ("[server]\nport = 1", "unknown setting server "),
            ("port = 'x'", "port: .*given: 'x'"),
            ("host = 1", "host: .*given: 1"),
        ],
    )
    def test_a_file_that_makes_no_sense(self, write_config: WriteConfig, text: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            load_settings({}, config=write_config(text))

    def test_a_file_that_is_not_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "rindle.toml").write_bytes(b"path = '/\xff'")
        with pytest.raises(ConfigurationError, match="is not TOML"):
            load_settings({}, config=tmp_path / "rindle.toml")

    @pytest.mark.parametrize(("name", "said"), [("nowhere.toml", "No such file"), (".", "Is a directory")])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, name: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=f"cannot be read: {said}"):
            load_settings({}, config=tmp_path / name)


class TestNames:
    def test_an_unknown_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_MAXSIZE", "1")
        with pytest.raises(ConfigurationError, match="RINDLE_MAXSIZE in the environment; did you mean RINDLE_MAX_SIZE"):
            load_settings({})

    def test_a_variable_in_lower_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_port", "7")
        assert load_settings({}).port == 7

    def test_an_unknown_keyword(self) -> None:
        with pytest.raises(ValidationError, match="prt"):
            Settings(prt=1)  # type: ignore[call-arg]

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Settings().port = 1


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            *(("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), ("250ms", 0.25), ("1h30m", 5400)),
            *(("1d 2h", 93600), ("1.5h", 5400), ("30", 30), ("0.5", 0.5), ("1e2", 100)),
        ],
    )
    def test_texts(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        "text", ["", "soon", "5 parsecs", "5s later", "s", "--5s", "1e400", "nan", "inf", "999999999999d", "٣s"]
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match=r"idle_timeout: give a duration such as 90s, 15m, 24h or 7d"):
            load_settings({"idle_timeout": text})

    @pytest.mark.parametrize("name", ["idle_timeout", "lease_ttl", "shutdown_grace", "reap_interval", "expires_in"])
    @pytest.mark.parametrize("text", ["0s", "0", "-1"])
    def test_what_is_not_longer_than_nothing(self, name: str, text: str) -> None:
        with pytest.raises(ConfigurationError, match=f"{name}: must be longer than nothing .given: '{text}'"):
            load_settings({name: text})

    def test_a_lease_must_outlive_its_renewals(self) -> None:
        assert load_settings({"lease_ttl": "5s"}).lease_ttl == timedelta(seconds=5)
        with pytest.raises(ConfigurationError, match=r"lease_ttl: must be 5s or longer.*given: '4s'"):
            load_settings({"lease_ttl": "4s"})

    @pytest.mark.parametrize("text", ["never", ""])
    def test_uploads_that_never_expire(self, text: str) -> None:
        assert load_settings({"expires_in": text}).expires_in is None

    def test_only_expiry_may_be_never(self) -> None:
        with pytest.raises(ConfigurationError, match="lease_ttl"):
            load_settings({"lease_ttl": "never"})

    @pytest.mark.parametrize("text", ["1d", "36h", "90m", "1m", "90s", "0.25s", "0s"])
    def test_they_are_spelt_as_they_are_read(self, text: str) -> None:
        duration = parse_duration(text)
        assert isinstance(duration, timedelta)
        assert spell_duration(duration) == text


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("5MiB", 5 << 20),
            ("5MB", 5_000_000),
            ("1.5GiB", 3 << 29),
            ("5mib", 5 << 20),
            ("123", 123),
            ("10 KiB", 10240),
        ],
    )
    def test_texts(self, text: str, size: int) -> None:
        assert load_settings({"part_size": text}).part_size == size

    @pytest.mark.parametrize("text", ["", "big", "5XB", "-5", "0", "1e400", "inf", "nan"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="part_size: "):
            load_settings({"part_size": text})

    def test_the_largest_upload(self) -> None:
        assert load_settings({"max_size": str(2**63 - 1)}).max_size == 2**63 - 1
        with pytest.raises(ConfigurationError, match="max_size"):
            load_settings({"max_size": str(2**63)})

    def test_a_rate_may_be_nothing(self) -> None:
        assert load_settings({"min_rate": "0"}).min_rate == 0


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("port", value) for value in ("x", "-1", "65536", "")),
            *(("path", value) for value in ("files", "/files/", "/", "", "/a b", "/a//b", "/ä")),
            *(("key_prefix", value) for value in ("/a", "a/", "a b", "..a/é")),
            *(
                ("public_url", value)
                for value in ("nonsense", "ftp://a", "https://", "https://a/b?c=d", "https://a/ b")
            ),
            *(("location", "both"), ("log_level", "INFO"), ("parts_in_flight", "0"), ("database_pool_size", "0")),
            *(("cors_credentials", "perhaps"), ("host", ""), ("data", "")),
        ],
    )
    def test_what_is_refused(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^{name}: .*given: '{value}'|^{name}: "):
            load_settings({name: value})

    @pytest.mark.parametrize("name", ["store", "database", "tails", "node_name", "public_url"])
    def test_an_empty_variable_is_one_that_is_not_set(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"RINDLE_{name.upper()}", "")
        assert getattr(load_settings({}), name) is None
        assert load_settings({}) == Settings()

    @pytest.mark.parametrize(
        ("text", "origins"),
        [("*", ("*",)), ("", ()), ("https://a", ("https://a",)), ("https://a, https://b,", ("https://a", "https://b"))],
    )
    def test_origins(self, text: str, origins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_CORS_ORIGINS", text)
        assert load_settings({}).cors_origins == origins

    def test_all_faults_are_told_at_once(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^port: .*; idle_timeout: .*"):
            load_settings({"port": "x", "idle_timeout": "y"})

    def test_what_is_kept_elsewhere(self) -> None:
        settings = Settings(data=Path("/data"), store="memory://", tails=Path("/tails"))
        assert settings.store_url == "memory://"
        assert settings.tails_folder == Path("/tails")
        assert settings.database_url == "sqlite:////data/rindle.db"


class TestTogether:
    def test_credentials_need_exact_origins(self) -> None:
        with pytest.raises(ConfigurationError, match="cors_credentials needs exact cors_origins"):
            load_settings({"cors_credentials": "true"})
        assert load_settings({"cors_credentials": "true", "cors_origins": "https://a"}).cors_credentials

    @pytest.mark.parametrize("store", [None, "s3://bucket", "file:///data"])
    def test_a_secret_needs_a_store_that_takes_one(self, store: str | None) -> None:
        with pytest.raises(ConfigurationError, match="store_secret is for a store of gs:// or az://"):
            load_settings({"store": store, "store_secret": "hidden"})
        settings = load_settings({"store": "az://container", "store_secret": "hidden"})
        assert settings.store_options == {"secret": "hidden"}
        assert load_settings({"store": "gs://bucket", "store_secret": ""}).store_options == {}

    def test_a_planned_size_beyond_the_largest(self) -> None:
        with pytest.raises(ConfigurationError, match=r"deferred_size .* must not be larger than max_size"):
            load_settings({"deferred_size": "2GiB", "max_size": "1GiB"})
        assert load_settings({"max_size": "1GiB"}).max_size == 1 << 30

    @pytest.mark.parametrize(
        ("given", "fault"),
        [
            ({"publish_to": "media/{nmae}"}, r"publish_to: there is no \{nmae\}; .* \(given: 'media/\{nmae\}'\)"),
            ({"publish_to": "{prefix}/{id}", "key_prefix": ""}, "publish_to: give a key such as"),
            ({"usecase": "a/b"}, "usecase: give a name such as avatars"),
            ({"usecase": ""}, "usecase: give a name such as avatars"),
        ],
    )
    def test_a_key_that_could_not_do(self, given: dict[str, str], fault: str) -> None:
        with pytest.raises(ConfigurationError, match=fault):
            load_settings(given)

    def test_an_empty_template_is_none(self) -> None:
        assert load_settings({"publish_to": ""}).key_template() is None


class TestSecrets:
    URL = "postgresql://rindle:s3cret@db/rindle"

    def test_they_are_not_shown(self) -> None:
        settings = load_settings({"database": self.URL, "store": "gs://bucket", "store_secret": "s3cret"})
        assert settings.database_url == self.URL
        shown: list[Any] = [settings, settings.model_dump(), settings.model_dump_json()]
        assert not any("s3cret" in f"{item} {item!r}" for item in shown)

    def test_they_are_not_repeated_in_complaints(self, write_config: WriteConfig) -> None:
        with pytest.raises(ConfigurationError) as raised:
            load_settings({}, config=write_config("database = ['postgresql://rindle:s3cret@db/rindle']"))
        assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"
        with pytest.raises(ConfigurationError) as raised:
            load_settings({}, config=write_config("store_secret = ['s3cret']"))
        assert "s3cret" not in f"{raised.value} {raised.value.__cause__}"


class TestState:
    """Settings of `rindle state`, which are apart from the server's and come from the same places."""

    KEY = b64encode(bytes(32)).decode()

    def test_where_they_come_from(self, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        config = write_config("port = 1\nstate_store = 'file:///a'\nstate_factory = 'file'\nstate_stack = 'file'")
        monkeypatch.setenv("RINDLE_STATE_FACTORY", "environment")
        monkeypatch.setenv("RINDLE_STATE_STACK", "environment")
        settings = load_state_settings({"stack": "flag"}, config=config)
        assert (settings.store, settings.factory, settings.stack) == ("file:///a", "environment", "flag")
        assert load_settings({}, config=config).port == 1

    def test_nothing_given(self) -> None:
        assert load_state_settings({}) == StateSettings()
        assert StateSettings().key_bytes is None

    def test_a_name_that_is_none_is_told_to_all_commands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_STATE_STCK", "prod")
        for load in (load_settings, load_state_settings):
            with pytest.raises(ConfigurationError, match=r"RINDLE_STATE_STCK .*; did you mean RINDLE_STATE_STACK"):
                load({})

    def test_the_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_STATE_KEY", self.KEY)
        settings = load_state_settings({})
        assert settings.key_bytes == bytes(32)
        assert self.KEY not in f"{settings} {settings!r} {settings.model_dump()}"

    @pytest.mark.parametrize("key", ["secret", "c2VjcmV0", "s3cret!", b64encode(bytes(31)).decode()])
    def test_a_key_that_is_none_is_not_repeated(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_STATE_KEY", key)
        with pytest.raises(ConfigurationError) as raised:
            load_state_settings({})
        assert str(raised.value) == "state_key: must be 32 bytes in base64, such as `openssl rand -base64 32` makes"
        assert key not in f"{raised.value.__cause__}"

    def test_an_empty_one_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("STORE", "STORE_SECRET", "FACTORY", "STACK", "KEY", "KMS_KEY_ID", "PREFIX"):
            monkeypatch.setenv(f"RINDLE_STATE_{name}", "")
        assert load_state_settings({}) == StateSettings()

    def test_what_opens_the_store(self) -> None:
        given = {"store": "gs://bucket", "store_secret": "s3cret"}
        settings = load_state_settings(given)
        assert settings.store_options == {"secret": "s3cret"}
        assert "s3cret" not in f"{settings} {settings!r} {settings.model_dump()}"
        assert load_state_settings({"store": "gs://bucket"}).store_options == {}
        with pytest.raises(ConfigurationError, match="store_secret is for a store of gs:// or az://"):
            load_state_settings({**given, "store": "s3://bucket"})

    def test_two_ways_of_sealing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RINDLE_STATE_KEY", self.KEY)
        with pytest.raises(ConfigurationError, match="state_key and state_kms_key_id are two ways of sealing"):
            load_state_settings({"kms_key_id": "alias/states"})

    def test_a_prefix_that_makes_no_key(self) -> None:
        with pytest.raises(ConfigurationError, match=r"state_prefix: give a prefix .*given: '/a'"):
            load_state_settings({"prefix": "/a"})
