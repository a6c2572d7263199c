"""One exchange from Python: python exchange.py FOLDER ENDPOINT, with a folder of `unefois init` or `unefois demo`."""
import sys, uuid
from pathlib import Path

import grpc
from unefois.v1 import common_pb2, exchange_pb2, exchange_pb2_grpc

folder, endpoint = Path(sys.argv[1]), sys.argv[2]
ca, key, certificate = ((folder / name).read_bytes() for name in ("pki/ca.pem", "clients/ville.key", "clients/ville.pem"))
channel = grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca, key, certificate))
notice = common_pb2.NoticeShown(version=1, channel="CHANNEL_ONLINE", language="LANGUAGE_FRENCH")
notice.shown_at.GetCurrentTime()
person = common_pb2.Identity(birth_name="MARCHAND", given_names=["Camille"], birth_date="1988-04-17", sex="SEX_FEMALE",
                             birth_country="99100", birth_commune="35238")
question = exchange_pb2.ExchangeRequest(
    request_id=str(uuid.uuid4()), agent="exchange.py", procedure="tarification-cantine", subject=person,
    attributes=["saint-exemple.periscolaire.enfants_inscrits"], law_request=exchange_pb2.LawRequest(notice=notice))
answer = exchange_pb2_grpc.ExchangeServiceStub(channel).Exchange(question, timeout=10)
for attribute in answer.attributes:
    print(exchange_pb2.AttributeStatus.Name(attribute.status), attribute.value.number_value)
