"""distilabel: a pipeline with its cache on."""

from common import asked, tell
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    told = asked()
    with Pipeline(name="rows", cache_dir=told.folder) as pipeline:
        data = [{"id": row["id"], "instruction": row["text"]} for row in told.rows]
        load = LoadDataFromDicts(data=data, batch_size=told.in_flight)
        llm = OpenAILLM(model="fake", base_url=told.url, api_key="none", generation_kwargs={"max_new_tokens": 256})
        ask = TextGeneration(llm=llm, input_batch_size=told.in_flight)
        load >> ask
    out = pipeline.run(use_cache=True)["default"]["train"]
    tell("distilabel", told, [(row["id"], row["instruction"]) for row in out if row["generation"]])


if __name__ == "__main__":
    main()
