"""The one frozen Settings object. Key names follow the production guide where it has them. Unknown keys are errors."""

from __future__ import annotations

from dataclasses import field
from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from annotated_types import Ge, Gt, Interval, MinLen

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
from indexpilot_tui.settings.section import Check, section

Weekday = Annotated[int, Interval(ge=0, le=6)]  # Monday is 0
Environment = Literal["production", "staging", "development", "demo"]
# beside SCRAM; `certificate` and `none`: the server asks for no password
AuthMethod = Literal["password", "md5", "gss", "sspi", "oauth", "certificate", "none"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("not an IANA time zone, e.g. Europe/Berlin or UTC") from None
    return value


@section
class Target:
    """One database. Either `dsn` (a libpq URI or conninfo without a password) or the single fields; what neither says
    comes from libpq's own sources (PG* variables, service file, .pgpass)."""

    name: str = ""
    environment: Environment = "production"
    dsn: str | None = None
    service: str | None = None
    host: str | None = None
    hostaddr: str | None = None
    port: Annotated[int, Interval(ge=1, le=65535)] | None = None
    dbname: str | None = None
    user: str | None = None
    planner: str | None = None  # the login that plans there: owns nothing, may only read; its password is libpq's to find
    sslmode: SslMode | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    passfile: str | None = None
    connect_timeout: Annotated[int, Interval(ge=1, le=60)] = 10  # seconds
    password_env: str | None = None  # name of the environment variable that holds the password
    password_command: tuple[str, ...] = ()  # argv, no shell; run again at each connect
    allow_auth: tuple[AuthMethod, ...] = ()  # methods beside scram-sha-256 that may log us in
    allow_auth_reason: str = ""  # why, for whoever reads this configuration
    channel_binding: Literal["require", "prefer"] = "require"  # over TLS, where nothing but SCRAM is allowed
    cores: Annotated[int, Interval(ge=1, le=10_000)] | None = None  # CPUs of the server's machine: SQL cannot see them
    allow_unix_socket_changes: bool = False  # a unix socket has no TLS; changes through one only with this
    standbys: tuple[str, ...] = ()  # names of targets: its standbys, to see who reads there before a drop or a rebuild
    disk_capacity_mb: Megabytes | None = None  # of the volume that all of the cluster is on

    @property
    def production(self) -> bool:
        return self.environment == "production"


@section
class Observe:
    interval_seconds: Annotated[float, Interval(ge=1, le=60)] = 2.0
    health_interval_seconds: Annotated[float, Interval(ge=5, le=3600)] = 30.0
    statement_timeout_ms: Annotated[int, Interval(ge=100, le=60_000)] = 5_000
    lock_timeout_ms: Annotated[int, Interval(ge=10, le=10_000)] = 100
    server_ms_per_minute_budget: Annotated[float, Gt(0)] = 60.0  # 0.1 % of one core
    unused_min_age_days: Annotated[float, Ge(0)] = 14.0  # a younger statistics window says so instead of "unused"


@section
class Connections:
    min_connections: Annotated[int, Ge(1)] = 1
    max_connections: Annotated[int, Interval(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.max_connections < self.min_connections:
            raise ValueError(f"max_connections ({self.max_connections}) is below min_connections ({self.min_connections})")


@section
class Window:
    """Hours in which changes may start. A window over midnight belongs to the day on which it starts; both ends are
    wall-clock times in `timezone` (IANA)."""

    enabled: bool = True
    start_hour: Annotated[int, Interval(ge=0, le=23)] = 2
    start_minute: Annotated[int, Interval(ge=0, le=59)] = 0
    end_hour: Annotated[int, Interval(ge=0, le=23)] = 6
    end_minute: Annotated[int, Interval(ge=0, le=59)] = 0
    days_of_week: Annotated[tuple[Weekday, ...], MinLen(1)] = (0, 1, 2, 3, 4, 5, 6)
    timezone: Annotated[str, Check(_known_zone)] = "UTC"
    max_clock_skew_seconds: Annotated[float, Interval(gt=0, le=60)] = 5.0  # this machine against the database

    def __post_init__(self) -> None:
        if self.enabled and self.start == self.end:
            raise ValueError("start and end are equal, so the window would never open; set enabled: false to lift it")

    @property
    def start(self) -> time:
        return time(self.start_hour, self.start_minute)

    @property
    def end(self) -> time:
        return time(self.end_hour, self.end_minute)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


@section
class Rate:
    max_requests: Annotated[int, Ge(1)] = 5
    time_window_seconds: Annotated[int, Ge(1)] = 3600


@section
class RateLimiter:
    query: Rate = Rate(max_requests=1000, time_window_seconds=60)  # statements that one console sends to a target
    index_creation: Rate = Rate()


@section
class Blockers:
    max_snapshot_age_seconds: Annotated[float, Ge(0)] = 30.0
    max_writer_age_seconds: Annotated[float, Ge(0)] = 30.0


@section
class Observer:
    """Limits of the guards that run during a build; seconds."""

    poll_seconds: Annotated[float, Interval(ge=0.1, le=2)] = 0.5
    yield_after_seconds: Annotated[float, Interval(ge=0.2, le=10)] = 1.5  # somebody waits for us
    yield_access_exclusive_after_seconds: Annotated[float, Interval(ge=0.2, le=10)] = 0.8
    initial_lock_seconds: Annotated[float, Interval(ge=1, le=60)] = 5.0
    waiting_phase_seconds: Annotated[float, Ge(1)] = 300.0
    requeue_delay_seconds: Annotated[float, Ge(1)] = 15.0
    max_attempts: Annotated[int, Interval(ge=1, le=20)] = 3
    lease_seconds: Annotated[int, Interval(ge=5, le=300)] = 10


@section
class UniquePrecheck:
    """Looking for duplicates before a UNIQUE index is built: a read-only count, given up after `max_seconds`. `required`:
    whether a check that did not end in time refuses the change."""

    max_seconds: Annotated[float, Interval(ge=0.1, le=3600)] = 60.0
    required: bool = True


@section
class Safeguards:
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


@section
class ApprovalPolicy:
    expires_after_hours: Annotated[float, Interval(gt=0, le=168)] = 24.0


@section
class VerificationPolicy:
    """Before and after, per queryid. Gates: enough calls on both sides, a change large enough to matter, and larger
    than the spread explains (Welch's t)."""

    window_seconds: Annotated[float, Interval(ge=5, le=86_400)] = 300.0
    min_calls: Annotated[int, Ge(5)] = 30
    min_change_pct: Annotated[float, Interval(ge=1, le=100)] = 10.0
    min_t: Annotated[float, Interval(ge=1.5, le=20)] = 3.0
    # whose plans are compared: those of the target's own EXPLAIN, the shadow's where the login may not ask for them, or none
    plans: Literal["auto", "target", "off"] = "auto"
    auto_revert: Literal["propose", "perform", "off"] = "propose"  # what a regression leads to


@section
class EmergencyBypass:
    """`enabled`: whether this configuration may switch a bypass on (one of somebody else holds here, too);
    `auto_recover_after_seconds`: how long it lasts unless told otherwise. The control schema allows an hour at most."""

    enabled: bool = False
    auto_recover_after_seconds: Annotated[int, Interval(ge=1, le=3600)] = 3600


@section
class BypassPolicy:
    emergency: EmergencyBypass = EmergencyBypass()


@section
class AnchorPolicy:
    """Where the head of the log's chain is kept outside of the database, at each end of a change: appended to `file`, or
    given as JSON to the stdin of `command` (argv, no shell). `required`: no change starts while that fails."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    timeout_seconds: Annotated[float, Interval(gt=0, le=60)] = 10.0
    required: bool = False

    def __post_init__(self) -> None:
        if self.file is not None and self.command:
            raise ValueError("give a file or a command, not both")
        if self.file is not None and not self.file.is_absolute():
            raise ValueError("the file needs an absolute path: executors run in a directory of their own")
        if self.required and self.file is None and not self.command:
            raise ValueError("required needs a file or a command")


@section
class Control:
    """Where the control schema lives; the target's own database when `dsn` is empty."""

    dsn: str | None = None
    tenant_id: int | None = None  # app.tenant_id of our control sessions, where the schema was set up for tenants
    anchor: AnchorPolicy = AnchorPolicy()


@section
class Tui:
    theme: str = "indexpilot-dark"
    mouse: bool = False


@section
class System:
    connection_pool: Connections = Connections()


@section
class StructuredLogging:
    """JSON, one event a line, to a file or stderr; never onto the screen."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    file: Path | None = None


@section
class Recording:
    """What a console that operates keeps of what it saw, in the control schema; of several consoles one writes."""

    enabled: bool = True
    query_stats_seconds: Annotated[float, Interval(ge=10, le=86_400)] = 300.0
    index_health_seconds: Annotated[float, Interval(ge=10, le=86_400)] = 3_600.0
    statements: Annotated[int, Interval(ge=1, le=100)] = 20  # the busiest of each window


@section
class DataRetention:
    """How long the control schema keeps what. The administrator's policy.keep_log_days holds for the log and
    the bypasses whatever stands here."""

    query_stats_days: Annotated[int, Ge(1)] = 90
    audit_logs_days: Annotated[int, Ge(1)] = 365
    performance_metrics_days: Annotated[int, Ge(1)] = 180  # index health, statistics of changes that have ended
    bypasses_days: Annotated[int, Ge(1)] = 365  # those that are over and were reviewed
    rate_slots_days: Annotated[int, Ge(1)] = 90  # never less than a rate limit's window
    gate_verdicts_days: Annotated[int, Ge(1)] = 180  # the last ones of changes that have ended


@section
class Operational:
    structured_logging: StructuredLogging = StructuredLogging()
    recording: Recording = Recording()
    data_retention: DataRetention = DataRetention()


@section
class Settings:
    targets: dict[str, Target] = field(default_factory=dict)
    default_target: str | None = None
    observe: Observe = Observe()
    system: System = System()
    rate_limiter: RateLimiter = RateLimiter()
    metrics: dict[MetricName, Metric] = field(default_factory=dict)
    production_safeguards: Safeguards = Safeguards()
    approval: ApprovalPolicy = ApprovalPolicy()
    bypass: BypassPolicy = BypassPolicy()
    verification: VerificationPolicy = VerificationPolicy()
    control: Control = Control()
    tui: Tui = Tui()
    operational: Operational = Operational()
    themes_dir: Path | None = None
    contacts: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)  # dotted key -> where its value came from; filled by the loader
