"""What a type checker says of settings written in Python, where fields take more than they keep."""

from pydantic import SecretStr

from asgipipe import CORSConfig, DeploymentSettings, EndpointSpec

DeploymentSettings(auth_key="secret")
DeploymentSettings(auth_key=["new", "old"])
DeploymentSettings(auth_key=SecretStr("secret"))
DeploymentSettings(auth_key=7)  # type: ignore[arg-type]
DeploymentSettings(cors=CORSConfig(allow_origins=["https://app.example"]))
DeploymentSettings(custom_endpoints=[EndpointSpec(path="/double", handler=lambda: None)])
DeploymentSettings(uvicorn_wokers=2)  # type: ignore[call-arg]
