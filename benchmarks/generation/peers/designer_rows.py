"""NeMo Data Designer: a seed data set and a column of text, resumed where it can be."""

from common import asked, tell  # isort: skip
import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner


def main() -> None:
    told = asked()
    designer = DataDesigner(
        artifact_path=told.folder,
        model_providers=[dd.ModelProvider(name="here", endpoint=told.url, provider_type="openai", api_key="none")],
    )
    designer.set_run_config(dd.RunConfig(buffer_size=max(told.in_flight, 100)))
    model = dd.ModelConfig(
        alias="fake",
        model="fake",
        provider="here",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(
            max_tokens=256, temperature=1.0, max_parallel_requests=told.in_flight
        ),
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(
        dd.DataFrameSeedSource(df=pd.DataFrame(told.rows)), sampling_strategy=dd.SamplingStrategy.ORDERED
    )
    builder.add_column(dd.LLMTextColumnConfig(name="reply", prompt="{{ text }}", model_alias="fake"))
    result = designer.create(builder, num_records=len(told.rows), dataset_name="rows", resume=dd.ResumeMode.IF_POSSIBLE)
    out = result.load_dataset()
    tell("data-designer", told, [(row["id"], row["text"]) for _, row in out.iterrows() if row["reply"]])


if __name__ == "__main__":
    main()
