"""The config saved by the real tools: each edit is noticed once, within a second."""

import os
import shutil
import subprocess
import time

from longhaul import Longhaul, site

TOOLS = ["vim", "rsync", "git", "sed", "cp", "mv"]


def run(*command, cwd):
    subprocess.run(
        command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


class Config:
    """The file, with a number in it that tells one version from the next."""

    def __init__(self, longhaul):
        self.longhaul, self.path, self.number = longhaul, longhaul.config, 100
        self.edit("git", lambda text: self.commit(text))

    def commit(self, text):
        """Both versions as commits; the checkout is the edit."""
        folder = self.path.parent
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
        run(*git, "init", "-q", ".", cwd=folder)
        run(*git, "add", self.path.name, cwd=folder)
        run(*git, "commit", "-q", "-m", "one", cwd=folder)
        # The second version without touching the work tree.
        blob = subprocess.run(
            [*git, "hash-object", "-w", "--stdin"],
            cwd=folder, input=text, text=True, check=True, stdout=subprocess.PIPE,
        ).stdout.strip()
        run(*git, "update-index", "--cacheinfo", f"100644,{blob},{self.path.name}", cwd=folder)
        self.began = time.monotonic()
        run(*git, "checkout", "-q", "--", self.path.name, cwd=folder)

    def edit(self, tool, save):
        old, self.number = self.number, self.number + 1
        text = self.path.read_text()
        line = f'response_timeout = "{old}s"'
        assert line in text, text
        before = self.longhaul.status()["generation"]
        self.began = time.monotonic()
        save(text.replace(line, f'response_timeout = "{self.number}s"'))
        wanted = before + 1
        event = self.longhaul.wait(
            "config reloaded", lambda event: event["generation"] >= wanted, deadline=10
        )
        took = time.monotonic() - self.began
        assert event["generation"] == wanted, event
        assert took < 1, f"{tool}: noticed after {took:.2f} s"
        assert f'"{self.number}s"' in self.path.read_text()


def main():
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    assert not missing, f"missing: {missing}"
    backend = site({"nobody": 9}).replace("[[routes]]\n", '[[routes]]\nresponse_timeout = "100s"\n')
    with Longhaul(backend) as longhaul:
        folder = longhaul.path
        config = Config(longhaul)

        def other(text):
            path = folder / "elsewhere" / "longhaul.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return path

        def vim(text, *options):
            old = config.number - 1
            change = f"%s/{old}s/{config.number}s/"
            run("vim", "-u", "NONE", "-es", *options, "-c", change, "-c", "wq", config.path, cwd=folder)

        saves = {
            "vim": lambda text: vim(text),
            "vim, backup by copy": lambda text: vim(text, "--cmd", "set backup backupcopy=yes"),
            "vim, backup by rename": lambda text: vim(text, "--cmd", "set backup backupcopy=no"),
            "rsync": lambda text: run("rsync", "-I", other(text), config.path, cwd=folder),
            "rsync --inplace": lambda text: run(
                "rsync", "-I", "--inplace", other(text), config.path, cwd=folder
            ),
            "sed -i": lambda text: run(
                "sed", "-i", f"s/{config.number - 1}s/{config.number}s/", config.path, cwd=folder
            ),
            "cp": lambda text: run("cp", other(text), config.path, cwd=folder),
            "mv": lambda text: run("mv", other(text), config.path, cwd=folder),
        }
        for tool, save in saves.items():
            config.edit(tool, save)
        # A double of the last would have come before this one.
        config.edit("write", lambda text: config.path.write_text(text))
        reloads = longhaul.events("config reloaded")
        assert len(reloads) == len(saves) + 2, reloads
        assert longhaul.events("config rejected") == []
    print(f"{len(saves) + 2} edits, each noticed once, within a second")


os.environ["GIT_CONFIG_GLOBAL"] = "/dev/null"
main()
