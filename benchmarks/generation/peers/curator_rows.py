"""bespokelabs-curator: its working folder is its resume.

It counts tokens with a table that it would download; one of single bytes stands in for it.
"""

from common import asked, tell  # isort: skip
import tiktoken
from bespokelabs import curator
from datasets import Dataset

BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([n]): n for n in range(256)}, special_tokens={}
)
tiktoken.get_encoding = lambda _: BYTES
tiktoken.encoding_for_model = lambda _: BYTES


class Ask(curator.LLM):
    def prompt(self, row: dict) -> str:
        return row["text"]

    def parse(self, row: dict, response: str) -> dict:
        return {"id": row["id"], "text": row["text"], "reply": response}


def main() -> None:
    told = asked()
    ask = Ask(
        model_name="fake",
        backend="openai",
        generation_params={"max_tokens": 256},
        backend_params={
            "base_url": told.url,
            "api_key": "none",
            "max_concurrent_requests": told.in_flight,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "require_all_responses": False,
        },
    )
    out = ask(Dataset.from_list(told.rows), working_dir=str(told.folder)).dataset
    tell("bespokelabs-curator", told, [(row["id"], row["text"]) for row in out if row["reply"]])


if __name__ == "__main__":
    main()
