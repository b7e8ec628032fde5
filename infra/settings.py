"""Settings: read from MEDGR2_* environment variables, checked, and refused when a name is not known."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from medgr2.schemas.errors import SettingsError

PREFIX = "MEDGR2_"
ComputeMode = Literal["inline", "ray-local", "ray-job"]
EngineKind = Literal["transformers", "openai", "vllm"]


class S3Settings(BaseModel):
    """Only for an s3:// root. Without keys the usual AWS environment, profile or role is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str = Field(default="", description="For stores other than AWS.")
    region: str = Field(default="us-east-1", description="Region of the bucket.")
    access_key_id: SecretStr | None = Field(default=None, description="Secret.")
    secret_access_key: SecretStr | None = Field(default=None, description="Secret.")


class StorageSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str = Field(
        default="./.medgr2",
        validate_default=True,
        description="A folder, or s3://bucket/prefix: everything lives there.",
    )
    cache: Path | None = Field(default=None, description="Local cache of images and models, for an s3:// root.")
    s3: S3Settings = S3Settings()

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str) -> str:
        # Workers run in other folders: a relative root would be another root there.
        if root.startswith("s3://"):
            if not root.removeprefix("s3://").strip("/"):
                raise ValueError("an s3:// root needs a bucket: s3://bucket/prefix")
            return root.rstrip("/")
        if "://" in root:
            raise ValueError(f"cannot store under {root!r}: give a folder or s3://bucket/prefix")
        return str(Path(root).expanduser().resolve())

    @property
    def is_s3(self) -> bool:
        return self.root.startswith("s3://")

    @property
    def cache_folder(self) -> Path:
        if self.cache is not None:
            return self.cache.expanduser().resolve()
        if self.is_s3:
            return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "medgr2"
        return Path(self.root) / "cache"


class ComputeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: ComputeMode = Field(default="ray-local", description="Where the work of a stage is done.")
    workers: int = Field(default=0, ge=0, description="Worker processes; 0 means one a core.")
    address: str = Field(default="", description="Dashboard address of a Ray cluster, for ray-job.")
    attempts: int = Field(default=3, ge=1, le=20, description="How often one cell may be tried in all.")
    failure_limit: float = Field(
        default=0.2, ge=0, le=1, description="Share of failed cells above which a stage stops."
    )
    deadline_seconds: float = Field(default=900, gt=0, description="Longest wait for one batch.")


class PrivacySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    patient_key: SecretStr | None = Field(
        default=None, description="Key of the patient hashes. Needed for s3:// roots."
    )


class ModelSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(default="embedded", description="'embedded', or a local folder made by save_pretrained.")
    policy: str = Field(
        default="",
        description="What policies start from: a local folder, or empty for the base; beside the embedded base that is "
        "the student that comes with it, which was taught less.",
    )
    told: bool = Field(
        default=False,
        description="Base and policy's start are told in words how to reply: models that were never taught it.",
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where models of our own processes run.")


class TrainingSettings(BaseModel):
    """How trainings are watched over and by whom they are done. Nothing here is part of a recipe: several processes add
    up in another order, which shows in the last digits, and the record of a training says how many there were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(
        default=1, ge=1, le=64, description="That share each step of a training of policy or generator; each has a GPU."
    )
    sharding: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="Of several, each holds the whole model (ddp), or a part of it (fsdp, on GPUs)."
    )
    stall_seconds: float = Field(default=1800, gt=0, description="So long a training may go without a step.")
    grace_seconds: float = Field(
        default=25, gt=0, description="So soon after SIGTERM a training has saved a checkpoint and left."
    )
    checkpoint_every: int = Field(default=100, ge=1, description="Steps of a training between its checkpoints.")
    store_every: int = Field(
        default=5, ge=0, description="Every so many checkpoints, one goes to the object store; 0 stores none."
    )
    keep_best: int = Field(
        default=2, ge=0, description="Stored besides the latest: those with the best training loss or reward."
    )
    sampler_url: str = Field(
        default="", description="Of a vLLM server on this machine that samples for GRPO: http://127.0.0.1:8000"
    )
    grader_seconds: float = Field(default=300, gt=0, description="Longest wait for the grades of one step of GRPO.")
    resume: Literal["exact", "anew"] = Field(
        default="exact", description="A checkpoint of another environment is refused (exact), or dropped (anew)."
    )


class ServerSettings(BaseModel):
    """An OpenAI-compatible server, and how patiently it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: ClassVar[str]
    """Its variables begin with this."""
    sends: ClassVar[str]
    """What goes there."""

    url: str = Field(default="", description="Of an OpenAI-compatible server: http://127.0.0.1:8000/v1")
    model: str = Field(default="", description="Name of the model on that server.")
    revision: str = Field(
        default="", description="Your name for the weights behind that name: another revision is asked anew."
    )
    api_key: SecretStr | None = Field(default=None, description="Secret. Sent as a bearer token.")
    outside: bool = Field(default=False, description="What is sent may go to a server on another machine.")
    in_flight: int = Field(default=64, ge=1, le=4096, description="Requests that wait for the server at once, at most.")
    attempts: int = Field(default=4, ge=1, le=20, description="Tries of one request that the server breaks off.")
    connect_seconds: float = Field(default=10, gt=0, description="Longest wait for a connection.")
    first_byte_seconds: float = Field(default=300, gt=0, description="Longest wait for the reply to begin.")
    total_seconds: float = Field(default=600, gt=0, description="Longest wait for the whole reply.")
    patience_seconds: float = Field(
        default=900, gt=0, description="So long a server may be busy or away before the stage stops."
    )
    price_in: float = Field(default=0, ge=0, description="Of a million tokens read.")
    price_out: float = Field(default=0, ge=0, description="Of a million tokens written.")

    @classmethod
    def variable(cls, name: str) -> str:
        return f"{PREFIX}{cls.group}__{name}"

    def _is_named(self, who: str) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{who} needs {self.variable('URL')}, such as http://127.0.0.1:8000/v1")
        if not self.model:
            raise ValueError(f"{who} needs {self.variable('MODEL')}, a name that the server knows")


class GeneratorSettings(ServerSettings):
    """Who writes the drafts. With 'transformers' and 'vllm' the registry's champion does, in our own processes; with
    'openai' whatever the server at the URL calls `model`."""

    group = "GENERATOR"
    sends = "pictures, labels and reports"

    engine: EngineKind = Field(default="transformers", description="transformers, openai (over HTTP) or vllm.")
    structured: Literal["auto", "never"] = Field(
        default="auto", description="Hold the model to a JSON schema where the server can."
    )
    python: Path | None = Field(default=None, description="Interpreter of the environment that holds vLLM.")

    @model_validator(mode="after")
    def _a_server_has_a_name(self) -> Self:
        if self.engine == "openai":
            self._is_named("the engine openai")
        return self


class VerifierSettings(ServerSettings):
    """A second opinion of drafts, from a model of another family than the scorer's. Nobody is asked without a URL."""

    group = "VERIFIER"
    sends = "pictures, questions and answers"

    @property
    def on(self) -> bool:
        return bool(self.url)

    @model_validator(mode="after")
    def _a_server_has_a_name(self) -> Self:
        if self.url or self.model:
            self._is_named("a verifier")
        return self


class EmbeddedSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path = Field(
        default=Path("./.medgr2-embedded"), validate_default=True, description="Where the embedded world is drawn."
    )

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", case_sensitive=False
    )

    storage: StorageSettings = StorageSettings()
    compute: ComputeSettings = ComputeSettings()
    privacy: PrivacySettings = PrivacySettings()
    models: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    generator: GeneratorSettings = GeneratorSettings()
    verifier: VerifierSettings = VerifierSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()


def known_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    for name, info in model.model_fields.items():
        full = prefix + name.upper()
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_names(kind, full + "__")
        else:
            yield full


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or one clear error that names the variable."""
    env = os.environ if environ is None else environ
    known = list(known_names())
    for name in env:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
            raise SettingsError(
                f"unknown setting {name}",
                where="environment",
                next_command=f"use {close[0]}" if close else "medgr2 config show  lists every setting",
            )
    try:
        if environ is None:
            return Settings()
        return Settings.model_validate(_nested(environ, known))
    except ValidationError as e:
        first = e.errors(include_input=False, include_url=False)[0]
        name = PREFIX + "__".join(str(part).upper() for part in first["loc"])
        raise SettingsError(f"{name}: {first['msg']}", where="environment", next_command="medgr2 config show") from None


def _nested(environ: Mapping[str, str], known: list[str]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, value in environ.items():
        if name.upper() not in known:
            continue
        *folders, leaf = name.upper().removeprefix(PREFIX).lower().split("__")
        node = tree
        for folder in folders:
            node = cast(dict[str, object], node.setdefault(folder, {}))
        node[leaf] = value
    return tree
