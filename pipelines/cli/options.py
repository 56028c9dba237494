"""Options that more than one command has."""

from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="Address to listen at; others than loopback want a key.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]
Safety = Annotated[str, typer.Option(help="Wording of danger and its referral: a name, a TOML of your own, or off.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")]
MaxClip = Annotated[float, typer.Option(min=0.1, help="Seconds of a clip or a sound.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without a key.")]
