from pipelines.cli.arguments import Commands


def register(commands: Commands) -> None:
    """Add the commands."""
