# longhaul in a container, from the sources beside this file:
#
#   docker build -t longhaul:0.1.0 .
#   docker run -v /etc/longhaul:/etc/longhaul:ro -p 8080:8080 longhaul:0.1.0
#
# docs/operations.md, "Containers", says what the machine around it must give.

# The oldest Debian that the binary is to run on decides which libc it asks for.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# As in README.md, "Install".
RUN cargo build --locked --release \
    && install -D -m 0755 target/release/longhaul /image/usr/bin/longhaul \
    && install -d -m 0755 /image/etc/longhaul /image/run/longhaul

# libc, libgcc and the CA certificates that `scheme = "https"` believes, and
# neither a shell nor a package manager: who gets in finds nothing to work with.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr /usr
COPY --from=build /image/etc/longhaul /etc/longhaul
# For the admin socket, `socket = "/run/longhaul/admin.sock"`.
COPY --from=build --chown=65532:65532 /image/run/longhaul /run/longhaul
# The image's own user, by number, so that Kubernetes can see that it is not root.
USER 65532:65532
# Mount the directory, not single files: edits are seen in it, and a file that is
# mounted by itself stays the one that it was.
VOLUME ["/etc/longhaul"]
EXPOSE 8080 8443
# Tunnels get their Close frames; give it more than drain.deadline to do so.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/longhaul"]
CMD ["run", "--config", "/etc/longhaul/longhaul.toml"]
# No HEALTHCHECK: it could only ask by way of [admin], which a config need not have,
# and what acts on "unhealthy" would cut tunnels for it.
