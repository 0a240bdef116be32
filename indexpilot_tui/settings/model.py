"""The one frozen Settings object. Key names follow the production guide where it has them. Unknown keys are errors."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from indexpilot_tui.settings.metrics import Metric, MetricName
from indexpilot_tui.settings.safeguards import (
    Backup,
    CpuThrottle,
    CriticalLoad,
    Disk,
    Megabytes,
    Replicas,
    StorageBudget,
    Throttle,
    WritePerformance,
)
from indexpilot_tui.settings.strict import Strict

Weekday = Annotated[int, Field(ge=0, le=6)]  # Monday is 0
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class Target(Strict):
    """One database. Either `dsn` (a libpq URI or conninfo without a password) or the single fields; what neither says
    comes from libpq's own sources (PG* variables, service file, .pgpass)."""

    name: str = ""
    environment: Literal["production", "staging", "development", "demo"] = "production"
    dsn: str | None = None
    service: str | None = None
    host: str | None = None
    hostaddr: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    dbname: str | None = None
    user: str | None = None
    sslmode: SslMode | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    passfile: str | None = None
    connect_timeout: Annotated[int, Field(ge=1, le=60)] = 10  # seconds
    password_env: str | None = None  # name of the environment variable that holds the password
    password_command: tuple[str, ...] = ()  # argv, no shell; run again at each connect
    cores: Annotated[int, Field(ge=1, le=10_000)] | None = None  # CPUs of the server's machine: SQL cannot see them
    allow_unix_socket_changes: bool = False  # a unix socket has no TLS; changes through one only with this
    standbys: tuple[str, ...] = ()  # names of targets: its standbys, to see who reads there before a drop or a rebuild
    disk_capacity_mb: Megabytes | None = None  # of the volume that all of the cluster is on

    @property
    def production(self) -> bool:
        return self.environment == "production"


class Observe(Strict):
    interval_seconds: Annotated[float, Field(ge=1, le=60)] = 2.0
    health_interval_seconds: Annotated[float, Field(ge=5, le=3600)] = 30.0
    statement_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 5_000
    lock_timeout_ms: Annotated[int, Field(ge=10, le=10_000)] = 100
    server_ms_per_minute_budget: Annotated[float, Field(gt=0)] = 60.0  # 0.1 % of one core
    unused_min_age_days: Annotated[float, Field(ge=0)] = 14.0  # a younger statistics window says so instead of "unused"


class Connections(Strict):
    min_connections: Annotated[int, Field(ge=1)] = 1
    max_connections: Annotated[int, Field(ge=1, le=100)] = 3

    @model_validator(mode="after")
    def _ordered(self) -> Connections:
        if self.max_connections < self.min_connections:
            raise ValueError(f"max_connections ({self.max_connections}) is below min_connections ({self.min_connections})")
        return self


class Window(Strict):
    """Hours in which changes may start. A window over midnight belongs to the day on which it starts; both ends are
    wall-clock times in `timezone` (IANA)."""

    enabled: bool = True
    start_hour: Annotated[int, Field(ge=0, le=23)] = 2
    start_minute: Annotated[int, Field(ge=0, le=59)] = 0
    end_hour: Annotated[int, Field(ge=0, le=23)] = 6
    end_minute: Annotated[int, Field(ge=0, le=59)] = 0
    days_of_week: Annotated[tuple[Weekday, ...], Field(min_length=1)] = (0, 1, 2, 3, 4, 5, 6)
    timezone: str = "UTC"
    max_clock_skew_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0  # this machine against the database

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise ValueError("not an IANA time zone, e.g. Europe/Berlin or UTC") from None
        return value

    @model_validator(mode="after")
    def _not_empty(self) -> Window:
        if self.enabled and self.start == self.end:
            raise ValueError("start and end are equal, so the window would never open; set enabled: false to lift it")
        return self

    @property
    def start(self) -> time:
        return time(self.start_hour, self.start_minute)

    @property
    def end(self) -> time:
        return time(self.end_hour, self.end_minute)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Rate(Strict):
    max_requests: Annotated[int, Field(ge=1)] = 5
    time_window_seconds: Annotated[int, Field(ge=1)] = 3600


class RateLimiter(Strict):
    query: Rate = Rate(max_requests=1000, time_window_seconds=60)  # statements that one console sends to a target
    index_creation: Rate = Rate()


class Blockers(Strict):
    max_snapshot_age_seconds: Annotated[float, Field(ge=0)] = 30.0
    max_writer_age_seconds: Annotated[float, Field(ge=0)] = 30.0


class Observer(Strict):
    """Limits of the guards that run during a build; seconds."""

    poll_seconds: Annotated[float, Field(ge=0.1, le=2)] = 0.5
    yield_after_seconds: Annotated[float, Field(ge=0.2, le=10)] = 1.5  # somebody waits for us
    yield_access_exclusive_after_seconds: Annotated[float, Field(ge=0.2, le=10)] = 0.8
    initial_lock_seconds: Annotated[float, Field(ge=1, le=60)] = 5.0
    waiting_phase_seconds: Annotated[float, Field(ge=1)] = 300.0
    requeue_delay_seconds: Annotated[float, Field(ge=1)] = 15.0
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    lease_seconds: Annotated[int, Field(ge=5, le=300)] = 10


class UniquePrecheck(Strict):
    """Looking for duplicates before a UNIQUE index is built: a read-only count, given up after `max_seconds`. `required`:
    whether a check that did not end in time refuses the change."""

    max_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    required: bool = True


class Safeguards(Strict):
    maintenance_window: Window = Window()
    throttle: Throttle = Throttle()
    cpu_throttle: CpuThrottle = CpuThrottle()
    critical_load: CriticalLoad = CriticalLoad()
    blockers: Blockers = Blockers()
    write_performance: WritePerformance = WritePerformance()
    replicas: Replicas = Replicas()
    disk: Disk = Disk()
    storage_budget: StorageBudget = StorageBudget()
    backup: Backup = Backup()
    unique_precheck: UniquePrecheck = UniquePrecheck()
    observer: Observer = Observer()


class ApprovalPolicy(Strict):
    expires_after_hours: Annotated[float, Field(gt=0, le=168)] = 24.0


class VerificationPolicy(Strict):
    """Before and after, per queryid. Gates: enough calls on both sides, a change large enough to matter, and larger
    than the spread explains (Welch's t)."""

    window_seconds: Annotated[float, Field(ge=5, le=86_400)] = 300.0
    min_calls: Annotated[int, Field(ge=5)] = 30
    min_change_pct: Annotated[float, Field(ge=1, le=100)] = 10.0
    min_t: Annotated[float, Field(ge=1.5, le=20)] = 3.0
    # whose plans are compared: those of the target's own EXPLAIN, the shadow's where the login may not ask for them, or none
    plans: Literal["auto", "target", "off"] = "auto"
    auto_revert: Literal["propose", "perform", "off"] = "propose"  # what a regression leads to


class EmergencyBypass(Strict):
    """`enabled`: whether this configuration may switch a bypass on (one of somebody else holds here, too);
    `auto_recover_after_seconds`: how long it lasts unless told otherwise. The control schema allows an hour at most."""

    enabled: bool = False
    auto_recover_after_seconds: Annotated[int, Field(ge=1, le=3600)] = 3600


class BypassPolicy(Strict):
    emergency: EmergencyBypass = EmergencyBypass()


class AnchorPolicy(Strict):
    """Where the head of the log's chain is kept outside of the database, at each end of a change: appended to `file`, or
    given as JSON to the stdin of `command` (argv, no shell). `required`: no change starts while that fails."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    required: bool = False

    @model_validator(mode="after")
    def _one_place(self) -> AnchorPolicy:
        if self.file is not None and self.command:
            raise ValueError("give a file or a command, not both")
        if self.file is not None and not self.file.is_absolute():
            raise ValueError("the file needs an absolute path: executors run in a directory of their own")
        if self.required and self.file is None and not self.command:
            raise ValueError("required needs a file or a command")
        return self


class Control(Strict):
    """Where the control schema lives; the target's own database when `dsn` is empty."""

    dsn: str | None = None
    tenant_id: int | None = None  # app.tenant_id of our control sessions, where the schema was set up for tenants
    anchor: AnchorPolicy = AnchorPolicy()


class Tui(Strict):
    theme: str = "indexpilot-dark"
    mouse: bool = False


class System(Strict):
    connection_pool: Connections = Connections()


class StructuredLogging(Strict):
    """JSON, one event a line, to a file or stderr; never onto the screen."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    file: Path | None = None


class Recording(Strict):
    """What a console that operates keeps of what it saw, in the control schema; of several consoles one writes."""

    enabled: bool = True
    query_stats_seconds: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    index_health_seconds: Annotated[float, Field(ge=10, le=86_400)] = 3_600.0
    statements: Annotated[int, Field(ge=1, le=100)] = 20  # the busiest of each window


class DataRetention(Strict):
    """How long the control schema keeps what. The administrator's policy.keep_log_days holds for the log and
    the bypasses whatever stands here."""

    query_stats_days: Annotated[int, Field(ge=1)] = 90
    audit_logs_days: Annotated[int, Field(ge=1)] = 365
    performance_metrics_days: Annotated[int, Field(ge=1)] = 180  # index health, statistics of changes that have ended
    bypasses_days: Annotated[int, Field(ge=1)] = 365  # those that are over and were reviewed
    rate_slots_days: Annotated[int, Field(ge=1)] = 90  # never less than a rate limit's window
    gate_verdicts_days: Annotated[int, Field(ge=1)] = 180  # the last ones of changes that have ended


class Operational(Strict):
    structured_logging: StructuredLogging = StructuredLogging()
    recording: Recording = Recording()
    data_retention: DataRetention = DataRetention()


class Settings(Strict):
    targets: dict[str, Target] = Field(default_factory=dict)
    default_target: str | None = None
    observe: Observe = Observe()
    system: System = System()
    rate_limiter: RateLimiter = RateLimiter()
    metrics: dict[MetricName, Metric] = Field(default_factory=dict)
    production_safeguards: Safeguards = Safeguards()
    approval: ApprovalPolicy = ApprovalPolicy()
    bypass: BypassPolicy = BypassPolicy()
    verification: VerificationPolicy = VerificationPolicy()
    control: Control = Control()
    tui: Tui = Tui()
    operational: Operational = Operational()
    themes_dir: Path | None = None
    contacts: dict[str, str] = Field(default_factory=dict)
    origins: dict[str, str] = Field(default_factory=dict)  # dotted key -> where its value came from; filled by the loader
