"""The listeners of Envoy as a file (LDS), so that a reload is a new file in the same process."""

import json
import os


def write(path, plain, tls, certs, generation):
    """Writes the file anew and moves it into place: Envoy watches for the move.

    What changes with the generation is the route's name, so every reload is a real change of the route table; the
    listeners are updated in place where Envoy can (connections stay until the drain time ends)."""
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": "0s"}}
    # What Envoy makes of an extended CONNECT is an upgrade without a Sec-WebSocket-Key, which no backend may accept (RFC
    # 6455 section 4.2.1). Until it makes keys, a fixed one of the route's is how operators get by. Those of clients stay.
    sockets = dict(everything, match={"prefix": "/ws/"}, request_headers_to_add=[{
        "header": {"key": "sec-websocket-key", "value": "dGhlIHNhbXBsZSBub25jZQ=="},
        "append_action": "ADD_IF_ABSENT"}])
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        # Tunnels may idle, and live longer than a request.
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            # No per-request statistics.
            "dynamic_stats": False}}],
        "route_config": routes(generation, [everything]),
    }
    # With TLS what ALPN chose, and WebSockets over HTTP/2 (RFC 8441), which are off by default. Streams and windows are
    # left at their defaults, which are more than is used.
    both = dict(manager, codec_type="AUTO", http2_protocol_options={"allow_connect": True},
                route_config=routes(generation, [sockets, everything]))
    chain = filters(manager)
    secure = dict(filters(both), transport_socket={"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            # As all: TLS 1.3 alone.
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": {"filename": f"{certs}/cert.pem"},
                                  "private_key": {"filename": f"{certs}/key.pem"}}]}}})
    listeners = [listener("plain", plain, chain), listener("tls", tls, secure)]
    text = json.dumps({"version_info": str(generation), "resources": listeners})
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def routes(generation, of):
    return {"name": f"generation-{generation}", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": of}]}


def filters(manager):
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def listener(name, port, chain):
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "tcp_backlog_size": 16384,
        "filter_chains": [chain],
    }
