"""Run the command line: ``python -m legnet_cli`` and the ``legnet`` script."""

from legnet_cli.main import app


def main() -> None:
    """Entry point of the ``legnet`` script."""
    app()


if __name__ == "__main__":
    main()
