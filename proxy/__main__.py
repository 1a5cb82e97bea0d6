"""`python -m proxy` is the `endcredits` command, for machines where scripts are not on the path."""

from proxy.cli import main

if __name__ == "__main__":
    main()
