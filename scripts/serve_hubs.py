"""Serves a directory with byte ranges, as hubs need them, and a page that shows its hubs in igv.js.

    serve_hubs.py DIRECTORY IGV.JS GENOME LOCUS HUB...

DIRECTORY has genome.fa with its index and a folder with a hub.txt for each HUB. Prints the address of the page and serves
until it is ended. The title of the page becomes `N tracks` when igv.js shows them, or what it complains of.
"""

import http.server
import json
import pathlib
import re
import sys

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>loading</title>
<script src="/igv.js"></script>
<div id="igv"></div>
<script>
const { genome, locus, hubs } = JSON.parse('SETTINGS')
async function show() {
  const tracks = []
  for (const name of hubs) {
    const hub = await igv.loadHub(`${location.origin}/${name}/hub.txt`)
    for (const group of await hub.getGroupedTrackConfigurations(genome)) tracks.push(...group.tracks)
  }
  const at = name => `${location.origin}/${name}`
  const reference = { id: genome, fastaURL: at("genome.fa"), indexURL: at("genome.fa.fai") }
  await igv.createBrowser(document.getElementById("igv"), { reference, locus, tracks })
  document.title = `${tracks.length} tracks`
}
show().catch(error => { document.title = `${error}` })
</script>
"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = self.server.contents(self.path)
        if content is None:
            return self.answer(404, b"")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, content)
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        last = min(last, len(content) - 1)
        self.answer(206, content[first : last + 1], f"bytes {first}-{last}/{len(content)}")

    def answer(self, status, content, part=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        if self.path == "/":
            self.send_header("Content-Type", "text/html")
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, directory, igv, settings):
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory, self.igv = directory.resolve(), igv
        self.page = PAGE.replace("SETTINGS", json.dumps(settings)).encode()

    def contents(self, path):
        if path == "/":
            return self.page
        if path == "/igv.js":
            return self.igv.read_bytes()
        file = (self.directory / path.split("?")[0].lstrip("/")).resolve()
        return file.read_bytes() if file.is_relative_to(self.directory) and file.is_file() else None


def main():
    directory, igv, genome, locus, *hubs = sys.argv[1:]
    settings = {"genome": genome, "locus": locus, "hubs": hubs}
    server = Server(pathlib.Path(directory), pathlib.Path(igv), settings)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
