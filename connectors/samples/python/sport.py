"""A connector of Unefois in Python: sports licences of a town hall, from a JSON file.

The broker starts it, tells it its socket in UNEFOIS_SOCKET, and closes its standard input when it is to end:

    sport.py licences.json

It prints nothing: what it handles are persons.
"""

import json
import os
import signal
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from google.protobuf import json_format
from unefois.connector.v1 import connector_pb2 as pb
from unefois.connector.v1 import connector_pb2_grpc as pb_grpc

PROTOCOL_VERSION = 1
SOFTWARE = "sport/1.0"
DATASET = "saint-exemple.sport"
ATTRIBUTES = ["licence", "club", "cotisation"]
# Letters that registers without them write as these.
LETTERS = str.maketrans({"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"})
SERVICE = pb.DESCRIPTOR.services_by_name["ConnectorService"].full_name


def folded(name: str) -> str:
    """Upper case without accents; hyphens, apostrophes and runs of spaces are one space: `LEFEVRE D OEUVRE`."""
    text = name.translate(LETTERS)
    letters = (c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in letters).upper().split())


class Sport(pb_grpc.ConnectorServiceServicer):
    def __init__(self, licences):
        self.licences = licences

    def Handshake(self, request, context):
        if PROTOCOL_VERSION not in request.protocol_versions:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no common version of the contract")
        return pb.HandshakeResponse(protocol_version=PROTOCOL_VERSION, software=SOFTWARE)

    def Describe(self, request, context):
        return pb.DescribeResponse(
            datasets=[
                pb.DatasetDescription(
                    dataset=DATASET,
                    version="1",
                    attributes=ATTRIBUTES,
                    filters=[pb.FilterDescription(name="saison", required=True)],
                    repeatable=True,
                )
            ]
        )

    def Fetch(self, request, context):
        season = request.filter["saison"]
        if not (len(season) == 4 and season.isdigit()):
            return self.missing(request, pb.OUTCOME_CODE_FILTER_REFUSED)
        person = request.subject
        if len(person.birth_date) != 10:
            # A part of a birth date does not tell who somebody is.
            return self.missing(request, pb.OUTCOME_CODE_NOT_IDENTIFIED)
        found = [licence for licence in self.licences if licence["saison"] == season and is_of(licence, person)]
        if not found:
            return self.missing(request, pb.OUTCOME_CODE_NO_FILE)
        if len(found) > 1:
            return self.missing(request, pb.OUTCOME_CODE_AMBIGUOUS)
        answer = pb.FetchResponse()
        for name in request.attributes:
            outcome = answer.attributes.add(name=name, code=pb.OUTCOME_CODE_FOUND)
            json_format.ParseDict(found[0][name], outcome.value)
        return answer

    @staticmethod
    def missing(request, code):
        """The same outcome for each attribute asked."""
        return pb.FetchResponse(attributes=[pb.AttributeOutcome(name=name, code=code) for name in request.attributes])


def is_of(licence, person) -> bool:
    """Whether a licence is the person's: names as people write them, the birth date to the day."""
    return (
        folded(licence["birth_name"]) == folded(person.birth_name)
        and [folded(name) for name in licence["given_names"]] == [folded(name) for name in person.given_names]
        and licence["birth_date"] == person.birth_date
    )


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        licences = json.load(file)
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    pb_grpc.add_ConnectorServiceServicer_to_server(Sport(licences), server)
    state = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    state.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port("unix:" + os.environ["UNEFOIS_SOCKET"])
    server.start()

    def end_with_the_broker():
        sys.stdin.buffer.read()
        server.stop(grace=1).wait()
        # Not sys.exit(): a question that hangs would hold it up for ever.
        os._exit(0)

    threading.Thread(target=end_with_the_broker, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
